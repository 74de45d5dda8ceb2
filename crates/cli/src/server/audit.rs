//! The audit log: identity says what an entry holds and whether one is wanted, logging keeps it.

use std::sync::Arc;

use iam::Iam;
use kernel::{
    audit::{Access, Call},
    ports,
};
use logging::Logging;

/// Calls, as entries of Cloud Logging.
pub struct Audit {
    pub iam: Arc<Iam>,
    pub logging: Arc<Logging>,
}

impl ports::Audit for Audit {
    fn wants(&self, access: Access) -> bool {
        self.iam.may_audit(access)
    }

    fn write(&self, call: &Call<'_>) {
        if let Some(entry) = self.iam.audit_entry(call) {
            self.logging.entry(entry);
        }
    }
}
