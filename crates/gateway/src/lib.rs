//! How a call gets in: one port, TLS, forward proxy, gRPC, JSON, authentication, dispatch.
