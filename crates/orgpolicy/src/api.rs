//! The methods: version 2, and what Resource Manager v1 has of the same policies.

use std::sync::Arc;

use kernel::Method;

use crate::OrgPolicies;

mod v1;
mod v2;

/// The methods that organization policies serve.
pub fn methods(policies: Arc<OrgPolicies>) -> Vec<Method> {
    let mut methods = v2::methods(policies.clone());
    methods.extend(v1::methods(policies));
    methods
}
