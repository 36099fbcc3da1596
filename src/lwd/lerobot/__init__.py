"""LeRobotDatasets: v3.0 and v2.1 in, v3.0 out, with pyarrow and PyAV alone."""
