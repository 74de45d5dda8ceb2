//! Each binding leads to its method; requests are put together and answers taken apart as Google does.

mod answers;
mod requests;
mod routes;

use apis::schema::MethodId;

fn method(name: &str) -> MethodId {
    MethodId::by_name(name).unwrap_or_else(|| panic!("no method {name}"))
}
