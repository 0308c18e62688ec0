"""Where the partitions are: on one Redis, on the master that Sentinel names, or on the masters of a Redis Cluster.

StoreClient
    |  node_of(partition), handle(error)
deployment.Deployment
    |-- standalone.StandaloneRedis   one node
    |-- sentinel.SentinelRedis       one node, whose pool connects to the present master
    |-- cluster.RedisCluster         a node for each master, and a map of the slots
    |
node.Node                            the connections to one Redis, and its clock
"""
