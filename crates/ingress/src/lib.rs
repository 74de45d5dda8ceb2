//! A request's way to an instance: routing, activation, autoscaling, limits, request log.
