//! What is stored: our own versioned messages, never Google's request types, so that a field that a newer haar
//! wrote survives an older one reading the rest.
//!
//! | key | holds |
//! |---|---|
//! | `iam/policies/SERVICE/NAME` | [`PolicyRecord`] of a resource |
//! | `iam/accounts/EMAIL` | [`AccountRecord`] of a service account |
//! | `iam/deleted/UNIQUE_ID` | [`AccountRecord`] of one that was deleted and can be brought back |
//! | `iam/keys/UNIQUE_ID/KEY_ID` | [`KeyRecord`] of a service account's key |
//! | `iam/revoked/SESSION` | when the last token of a revoked session expires, in seconds |
//! | `iam/roles/PARENT/roles/ID` | [`RoleRecord`] of a custom role |
//! | `iam/groups/EMAIL` | [`GroupRecord`] of a group |
//! | `iam/used/EMAIL` | `UsedRecord`: what a service account used of what it may |
//! | `iam/system/NAME` | keys of our own: `token`, `signer` |

use std::collections::BTreeMap;

use kernel::mirror::Record;
use prost::Message;

/// The prefix of policies.
pub(crate) const POLICIES: &str = "iam/policies/";
/// The prefix of service accounts.
pub(crate) const ACCOUNTS: &str = "iam/accounts/";
/// The prefix of deleted service accounts.
pub(crate) const DELETED: &str = "iam/deleted/";
/// The prefix of service-account keys.
pub(crate) const KEYS: &str = "iam/keys/";
/// The prefix of revoked sessions.
pub(crate) const REVOKED: &str = "iam/revoked/";
/// The prefix of custom roles.
pub(crate) const ROLES: &str = "iam/roles/";
/// The prefix of groups.
pub(crate) const GROUPS: &str = "iam/groups/";
/// The prefix of what service accounts used.
pub(crate) const USED: &str = "iam/used/";
/// The prefix of our own keys.
pub(crate) const SYSTEM: &str = "iam/system/";

/// A policy.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PolicyRecord {
    /// Who has which role.
    #[prost(message, repeated, tag = "1")]
    pub bindings: Vec<BindingRecord>,
    /// Which calls are written to the audit log.
    #[prost(message, repeated, tag = "2")]
    pub audit: Vec<AuditRecord>,
    /// The version that was set: 1, or 3 where a condition was used.
    #[prost(int32, tag = "3")]
    pub version: i32,
}

/// One role and who has it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BindingRecord {
    /// The role, such as `roles/run.invoker`.
    #[prost(string, tag = "1")]
    pub role: String,
    /// Who has it.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<MemberRecord>,
    /// When it holds; always, if absent.
    #[prost(message, optional, tag = "3")]
    pub condition: Option<ConditionRecord>,
}

/// One member, as it was written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub(crate) struct MemberRecord {
    /// The member, such as `user:ada@example.com`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The unique id of the service account that was meant, where it is one of ours: an account made again under
    /// the same address is another account.
    #[prost(string, tag = "2")]
    pub unique_id: String,
}

/// A condition.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub(crate) struct ConditionRecord {
    /// The expression, in CEL.
    #[prost(string, tag = "1")]
    pub expression: String,
    /// Its title.
    #[prost(string, tag = "2")]
    pub title: String,
    /// Its description.
    #[prost(string, tag = "3")]
    pub description: String,
    /// Where it came from.
    #[prost(string, tag = "4")]
    pub location: String,
}

/// What is written to the audit log of one service.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuditRecord {
    /// The service, or `allServices`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// The kinds of log.
    #[prost(message, repeated, tag = "2")]
    pub logs: Vec<AuditLogRecord>,
}

/// One kind of audit log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuditLogRecord {
    /// `google.iam.v1.AuditLogConfig.LogType`.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Whose calls are left out.
    #[prost(string, repeated, tag = "2")]
    pub exempted: Vec<String>,
}

/// A service account.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AccountRecord {
    /// The project it belongs to, by id.
    #[prost(string, tag = "1")]
    pub project: String,
    /// Its address.
    #[prost(string, tag = "2")]
    pub email: String,
    /// 21 digits that no other account ever had.
    #[prost(string, tag = "3")]
    pub unique_id: String,
    /// What people call it.
    #[prost(string, tag = "4")]
    pub display_name: String,
    /// What it is for.
    #[prost(string, tag = "5")]
    pub description: String,
    /// Whether it may authenticate.
    #[prost(bool, tag = "6")]
    pub disabled: bool,
    /// When it was deleted, in seconds; 0 while it lives.
    #[prost(uint64, tag = "7")]
    pub deleted: u64,
}

/// A key of a service account.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyRecord {
    /// 40 hexadecimal digits.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whose it is.
    #[prost(string, tag = "2")]
    pub unique_id: String,
    /// The public key: modulus.
    #[prost(bytes = "vec", tag = "3")]
    pub modulus: Vec<u8>,
    /// The public key: exponent.
    #[prost(bytes = "vec", tag = "4")]
    pub exponent: Vec<u8>,
    /// The private key in PKCS #8; only for keys that we sign with. What a user created is shown once and kept
    /// nowhere.
    #[prost(bytes = "vec", tag = "5")]
    pub private: Vec<u8>,
    /// Whether it was created by a user, by us, or brought from outside.
    #[prost(enumeration = "KeyOrigin", tag = "6")]
    pub origin: i32,
    /// From when it is valid, in seconds.
    #[prost(uint64, tag = "7")]
    pub after: u64,
    /// Until when it is valid, in seconds.
    #[prost(uint64, tag = "8")]
    pub before: u64,
    /// Whether it may be used.
    #[prost(bool, tag = "9")]
    pub disabled: bool,
    /// A certificate of the key, in PEM.
    #[prost(string, tag = "10")]
    pub certificate: String,
}

/// Where a key came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum KeyOrigin {
    /// Made here for a user, who holds the private half.
    User = 0,
    /// Ours, for `signBlob` and `signJwt`.
    System = 1,
    /// Uploaded: the public half is all that was ever here.
    Uploaded = 2,
}

/// A session that was ended before its tokens expired.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RevokedRecord {
    /// When the last of its tokens would have expired, in seconds; 0 for never.
    #[prost(uint64, tag = "1")]
    pub until: u64,
}

impl PolicyRecord {
    /// Whether any binding holds only sometimes.
    pub(crate) fn has_conditions(&self) -> bool {
        self.bindings.iter().any(|binding| binding.condition.is_some())
    }
}

/// A custom role.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RoleRecord {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub title: String,
    /// What it is for.
    #[prost(string, tag = "2")]
    pub description: String,
    /// What it allows, by name, in order.
    #[prost(string, repeated, tag = "3")]
    pub permissions: Vec<String>,
    /// `google.iam.admin.v1.Role.RoleLaunchStage`.
    #[prost(int32, tag = "4")]
    pub stage: i32,
    /// When it was deleted, in seconds; 0 if it was not.
    #[prost(uint64, tag = "5")]
    pub deleted: u64,
}

impl RoleRecord {
    /// Whether it grants anything now: a deleted or disabled one keeps its bindings and grants nothing.
    pub(crate) fn is_in_force(&self) -> bool {
        self.deleted == 0
            && self.stage != apis::google::iam::admin::v1::role::RoleLaunchStage::Disabled as i32
    }
}

/// A group, under its address in lowercase.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupRecord {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub display_name: String,
    /// The addresses of its members, in lowercase.
    #[prost(string, repeated, tag = "2")]
    pub members: Vec<String>,
    /// What it is for.
    #[prost(string, tag = "3")]
    pub description: String,
    /// What it is named by, after `groups/`; empty in what an older haar wrote, where it follows from the address.
    #[prost(string, tag = "4")]
    pub id: String,
    /// When it was made, in seconds; 0 where that is not known.
    #[prost(uint64, tag = "5")]
    pub created: u64,
    /// When it was last changed, in seconds.
    #[prost(uint64, tag = "6")]
    pub updated: u64,
    /// Its labels, which say what kind of group it is.
    #[prost(btree_map = "string, string", tag = "7")]
    pub labels: BTreeMap<String, String>,
    /// What is known of members besides their addresses; nothing of those who are plain members since nobody knows
    /// when.
    #[prost(message, repeated, tag = "8")]
    pub memberships: Vec<MembershipRecord>,
}

/// What is known of a member of a group.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MembershipRecord {
    /// The address, in lowercase.
    #[prost(string, tag = "1")]
    pub email: String,
    /// The roles besides being a member: `OWNER`, `MANAGER`.
    #[prost(string, repeated, tag = "2")]
    pub roles: Vec<String>,
    /// Since when, in seconds.
    #[prost(uint64, tag = "3")]
    pub created: u64,
    /// When it was last changed, in seconds.
    #[prost(uint64, tag = "4")]
    pub updated: u64,
}

impl Record for RoleRecord {
    const FORMAT: u8 = 1;
}

impl Record for GroupRecord {
    const FORMAT: u8 = 1;
}

impl Record for PolicyRecord {
    const FORMAT: u8 = 1;
}

impl Record for AccountRecord {
    const FORMAT: u8 = 1;
}

impl Record for KeyRecord {
    const FORMAT: u8 = 1;
}

impl Record for RevokedRecord {
    const FORMAT: u8 = 1;
}
