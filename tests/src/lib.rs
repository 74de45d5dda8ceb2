//! End to end: real clients against a running haar.
