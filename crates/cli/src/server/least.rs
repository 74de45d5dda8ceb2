//! What `haar iam least` asks: what an account used, what it has and what it needs, as JSON. And the minute's work that
//! keeps what is noted: a kill loses what was noted since the last minute.

use std::{sync::Arc, time::Duration};

use iam::{Fate, Grant, Iam, Least, Origin, Standing, Use};
use kernel::{Result, time::Micros};
use serde_json::{Value, json};

/// How often it is written down what accounts used.
const WRITTEN: Duration = Duration::from_secs(60);

/// Writes down, now and again, what accounts used.
pub async fn keep(iam: Arc<Iam>) {
    loop {
        tokio::time::sleep(WRITTEN).await;
        write(&iam).await;
    }
}

/// Writes down what accounts used.
pub async fn write(iam: &Iam) {
    if let Err(error) = iam.write_usage().await {
        tracing::warn!("what service accounts used could not be written: {error:?}");
    }
}

/// What an account needs at the least.
///
/// # Errors
/// `NOT_FOUND` for an account that does not exist; those of the store.
pub async fn answer(iam: &Iam, account: &str) -> Result<Value> {
    let least: Least = iam.least(account).await?;
    Ok(json!({
        "account": least.account,
        "used": least.uses.iter().map(used).collect::<Vec<_>>(),
        "has": least.has.iter().map(standing).collect::<Vec<_>>(),
        "gives": least.gives.iter().map(grant).collect::<Vec<_>>(),
        "partial": least.is_partial,
    }))
}

fn used(used: &Use) -> Value {
    let (origin, member) = match &used.origin {
        Origin::Own => ("own", None),
        Origin::Conditional => ("conditional", None),
        Origin::Other(member) => ("other", Some(member)),
        Origin::Lost => ("lost", None),
    };
    json!({
        "permission": used.permission,
        "resource": used.resource,
        "first": time(used.first),
        "last": time(used.last),
        "count": used.count,
        "by": origin,
        "member": member,
    })
}

fn standing(one: &Standing) -> Value {
    let mut shown = grant(&one.grant);
    shown["permissions"] = one.permissions.into();
    shown["used"] = one.used.clone().into();
    shown["fate"] = match one.fate {
        Fate::Keep => "keep",
        Fate::Unused => "unused",
        Fate::Replaced => "replaced",
    }
    .into();
    shown
}

fn grant(grant: &Grant) -> Value {
    let condition = |(title, expression): &(String, String)| json!({ "title": title, "expression": expression, "description": grant.description });
    json!({
        "resource": grant.resource,
        "role": grant.role,
        "condition": grant.condition.as_ref().map(condition),
    })
}

fn time(seconds: u64) -> String {
    prost_types::Timestamp::from(Micros::seconds(seconds)).to_string()
}
