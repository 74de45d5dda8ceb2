//! Numbers of revisions, for `haar status` and `haar rollout`.

use run::{Billing, Run, Usage};
use serde_json::{Value, json};

/// What revisions have used, ever: for what prices it.
pub fn usage(run: &Run) -> Value {
    run.usage().iter().map(used).collect()
}

fn used(usage: &Usage) -> Value {
    json!({
        "revision": usage.revision,
        "billing": match usage.billing {
            Billing::Requests => "request-based",
            Billing::Instances => "instance-based",
        },
        "requests": usage.requests,
        "instances": usage.instances,
        "instance_seconds": usage.instance_seconds,
        "vcpu_seconds": usage.vcpu_seconds,
        "gib_seconds": usage.gib_seconds,
    })
}

/// How requests to the revisions that serve went, since haar was started. `latencies` counts requests by how long they
/// took, up to each of `bounds` (microseconds) and beyond.
pub fn counters(run: &Run) -> Value {
    let one = |(revision, counters): (String, ingress::Snapshot)| {
        json!({
            "revision": revision,
            "requests": counters.requests.iter().sum::<u64>(),
            "errors": counters.requests[5],
            "latencies": counters.latencies,
        })
    };
    let revisions: Value = run.counters().into_iter().map(one).collect();
    json!({ "bounds": ingress::LATENCY_BOUNDS, "revisions": revisions })
}
