//! What this haar serves, for `haar api --list`: each method, how it is called, and what it asks of its caller.

use apis::MethodId;
use kernel::method::{Grant, Method};
use serde_json::{Value, json};

/// The methods that are served, by host and name.
pub struct Served(Vec<(MethodId, &'static [Grant])>);

impl Served {
    /// Of these.
    pub fn new(methods: &[Method]) -> Self {
        let mut all: Vec<_> = methods.iter().map(|method| (method.id, method.grants)).collect();
        all.sort_by_key(|(id, _)| (id.host(), id.name()));
        Served(all)
    }

    /// All of them, for a program to read.
    pub fn describe(&self) -> Value {
        self.0.iter().map(|(id, grants)| describe(*id, grants)).collect()
    }
}

fn describe(id: MethodId, grants: &[Grant]) -> Value {
    let rest: Vec<Value> =
        id.bindings().map(|call| json!({ "verb": call.verb, "path": call.template })).collect();
    let permissions: Vec<Value> = grants
        .iter()
        .map(|grant| json!({ "permission": grant.permission, "resource": grant.resource }))
        .collect();
    json!({
        "host": id.host(),
        "method": id.name(),
        "grpc": !id.grpc_path().is_empty(),
        "rest": rest,
        "permissions": permissions,
    })
}
