//! Container images: the content-addressed layers that instances start from.
