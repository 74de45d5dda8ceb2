//! What is stored of pools and providers: our own versioned messages.
//!
//! | key | holds |
//! |---|---|
//! | `iam/pools/NUMBER/POOL` | [`PoolRecord`]; the project is named by its number |
//! | `iam/providers/NUMBER/POOL/PROVIDER` | [`ProviderRecord`] |

use std::collections::BTreeMap;

use kernel::mirror::Record;
use prost::Message;

/// The prefix of pools.
pub(crate) const POOLS: &str = "iam/pools/";
/// The prefix of providers.
pub(crate) const PROVIDERS: &str = "iam/providers/";

/// A workload identity pool.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PoolRecord {
    /// What people call it.
    #[prost(string, tag = "1")]
    pub display_name: String,
    /// What it is for.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Whether its identities are refused.
    #[prost(bool, tag = "3")]
    pub disabled: bool,
    /// When it was deleted, in seconds; 0 if it was not.
    #[prost(uint64, tag = "4")]
    pub deleted: u64,
    /// What was asked for, as it was written; empty is `FEDERATION_ONLY`.
    #[prost(string, tag = "5")]
    pub mode: String,
}

/// An OpenID Connect provider of a pool.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProviderRecord {
    /// What people call it.
    #[prost(string, tag = "1")]
    pub display_name: String,
    /// What it is for.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Whether its tokens are refused.
    #[prost(bool, tag = "3")]
    pub disabled: bool,
    /// When it was deleted, in seconds; 0 if it was not.
    #[prost(uint64, tag = "4")]
    pub deleted: u64,
    /// What is made of an assertion: attribute to expression.
    #[prost(btree_map = "string, string", tag = "5")]
    pub mapping: BTreeMap<String, String>,
    /// Which assertions are accepted; all, if empty.
    #[prost(string, tag = "6")]
    pub condition: String,
    /// Who signs.
    #[prost(string, tag = "7")]
    pub issuer: String,
    /// Whom tokens may be meant for; the provider itself, if empty.
    #[prost(string, repeated, tag = "8")]
    pub audiences: Vec<String>,
    /// The issuer's keys, if they are not asked of the issuer.
    #[prost(string, tag = "9")]
    pub jwks: String,
}

impl Record for PoolRecord {
    const FORMAT: u8 = 1;
}

impl Record for ProviderRecord {
    const FORMAT: u8 = 1;
}
