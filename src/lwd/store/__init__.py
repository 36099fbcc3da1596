"""Where everything that crosses a process lives: objects, catalog, queue, weights."""
