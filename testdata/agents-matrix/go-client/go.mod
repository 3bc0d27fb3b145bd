module heron-go-client

go 1.21
