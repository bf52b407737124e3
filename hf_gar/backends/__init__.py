"""The same network on other runtimes than PyTorch, and the choice of one."""
