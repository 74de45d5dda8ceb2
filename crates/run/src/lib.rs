//! Cloud Run: services, revisions, traffic, and the reconciler.
