"""Where blocks run: clients, clusters, batch queues."""
