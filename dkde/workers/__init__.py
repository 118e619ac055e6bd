"""Workers that compute blocks: clients, clusters, batch queues."""
