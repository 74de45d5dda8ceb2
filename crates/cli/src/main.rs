//! haar
fn main() {}
