//! What policies come to: a fold over those of a resource's ancestors, from the organization down.
//!
//! A boolean constraint is what the lowest policy says. A list is what the lowest policy says, too, unless that inherits:
//! then the values of both count, and what either denies is denied. A reset is as if nothing stood above.
//! Source: <https://cloud.google.com/resource-manager/docs/organization-policy/understanding-hierarchy>.

use std::collections::BTreeSet;

use crate::{
    constraints::{Constraint, Default, Kind, Values},
    record::{RuleRecord, Says, SpecRecord},
};

/// What holds somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effective {
    /// Of a boolean constraint: whether it is enforced.
    Boolean(bool),
    /// Of a list constraint: which values are allowed.
    List(List),
}

/// Which values are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Nobody set it.
    Unset(Default),
    /// Somebody did.
    Set(Allowance),
}

/// What policies say of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// All values are allowed that are not denied.
    pub(crate) allow_all: bool,
    /// All values are denied.
    pub(crate) deny_all: bool,
    /// If there are any, no others are allowed.
    pub(crate) allowed: BTreeSet<String>,
    /// These are not allowed.
    pub(crate) denied: BTreeSet<String>,
}

/// What holds below these policies of a constraint, the topmost first.
pub(crate) fn of<'s>(constraint: &Constraint, specs: impl IntoIterator<Item = &'s SpecRecord>) -> Effective {
    specs.into_iter().fold(unset(constraint), |above, spec| match (constraint.kind, above) {
        _ if spec.reset => unset(constraint),
        (Kind::Boolean, _) => Effective::Boolean(spec.rules.iter().any(|rule| rule.says() == Says::Enforce)),
        (Kind::List { values, .. }, Effective::List(above)) => {
            let own = Allowance::of(&spec.rules, values);
            Effective::List(if spec.inherit { above.and(own) } else { List::Set(own) })
        }
        (Kind::List { .. }, other) => other,
    })
}

fn unset(constraint: &Constraint) -> Effective {
    match constraint.kind {
        Kind::Boolean => Effective::Boolean(false),
        Kind::List { default, .. } => Effective::List(List::Unset(default)),
    }
}

impl Effective {
    /// Whether a boolean constraint is enforced.
    pub(crate) fn enforced(&self) -> bool {
        matches!(self, Effective::Boolean(true))
    }

    /// Whether a list constraint allows what is known by these names.
    pub(crate) fn allows(&self, names: &[&str]) -> bool {
        match self {
            Effective::Boolean(_) => true,
            Effective::List(List::Unset(default)) => *default == Default::Allow,
            Effective::List(List::Set(set)) => set.allows(names),
        }
    }

    /// The rules that say the same.
    pub(crate) fn rules(&self) -> Vec<RuleRecord> {
        let rule = |says: Says| vec![RuleRecord { says: says.into(), ..RuleRecord::default() }];
        match self {
            Effective::Boolean(true) => rule(Says::Enforce),
            Effective::Boolean(false) => rule(Says::Leave),
            Effective::List(List::Unset(Default::Allow)) => rule(Says::AllowAll),
            Effective::List(List::Unset(Default::Deny)) => rule(Says::DenyAll),
            Effective::List(List::Set(set)) => set.rules(),
        }
    }
}

impl List {
    /// The same and what a policy below adds. Where nobody set anything there is nothing to add to.
    fn and(self, own: Allowance) -> List {
        match self {
            List::Unset(default) if own == Allowance::default() => List::Unset(default),
            List::Unset(_) => List::Set(own),
            List::Set(mut above) => {
                above.allow_all |= own.allow_all;
                above.deny_all |= own.deny_all;
                above.allowed.extend(own.allowed);
                above.denied.extend(own.denied);
                List::Set(above)
            }
        }
    }
}

impl Allowance {
    fn of(rules: &[RuleRecord], values: Values) -> Self {
        let meant = |given: &String| values.meant(given).unwrap_or(given).to_owned();
        let mut all = Allowance::default();
        for rule in rules {
            all.allow_all |= rule.says() == Says::AllowAll;
            all.deny_all |= rule.says() == Says::DenyAll;
            all.allowed.extend(rule.allowed.iter().map(meant));
            all.denied.extend(rule.denied.iter().map(meant));
        }
        all
    }

    fn allows(&self, names: &[&str]) -> bool {
        let any_of = |values: &BTreeSet<String>| names.iter().any(|name| values.contains(*name));
        match self {
            _ if self.deny_all || any_of(&self.denied) => false,
            _ if self.allow_all || self.allowed.is_empty() => true,
            _ => any_of(&self.allowed),
        }
    }

    fn rules(&self) -> Vec<RuleRecord> {
        let mut rules = Vec::new();
        let mut say = |says: Says, allowed: &BTreeSet<String>, denied: &BTreeSet<String>| {
            let (allowed, denied) = (allowed.iter().cloned().collect(), denied.iter().cloned().collect());
            rules.push(RuleRecord { says: says.into(), allowed, denied });
        };
        let none = BTreeSet::new();
        match self {
            _ if self.deny_all => say(Says::DenyAll, &none, &none),
            _ if self.allow_all && self.denied.is_empty() => say(Says::AllowAll, &none, &none),
            _ if self.allow_all => say(Says::Values, &none, &self.denied),
            _ if self.allowed.is_empty() && self.denied.is_empty() => say(Says::AllowAll, &none, &none),
            _ => say(Says::Values, &self.allowed, &self.denied),
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list() -> &'static Constraint {
        Constraint::named("run.allowedIngress").unwrap()
    }

    fn values(allowed: &[&str], denied: &[&str]) -> SpecRecord {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let rule = RuleRecord { says: Says::Values.into(), allowed: owned(allowed), denied: owned(denied) };
        SpecRecord { rules: vec![rule], ..SpecRecord::default() }
    }

    fn says(says: Says) -> SpecRecord {
        let rule = RuleRecord { says: says.into(), ..RuleRecord::default() };
        SpecRecord { rules: vec![rule], ..SpecRecord::default() }
    }

    fn inheriting(spec: SpecRecord) -> SpecRecord {
        SpecRecord { inherit: true, ..spec }
    }

    #[test]
    fn the_lowest_policy_says_whether_a_boolean_constraint_holds() {
        let keys = Constraint::named("iam.disableServiceAccountKeyCreation").unwrap();
        let (on, off) = (says(Says::Enforce), says(Says::Leave));
        let reset = SpecRecord { reset: true, ..SpecRecord::default() };
        assert!(!of(keys, []).enforced());
        assert!(of(keys, [&on]).enforced());
        assert!(!of(keys, [&on, &off]).enforced());
        assert!(of(keys, [&off, &on]).enforced());
        assert!(!of(keys, [&on, &reset]).enforced());
    }

    #[test]
    fn a_list_is_replaced_or_added_to() {
        let (all, internal) = (values(&["all"], &[]), values(&["is:internal"], &[]));
        let allows = |specs: &[&SpecRecord], name: &str| of(list(), specs.iter().copied()).allows(&[name]);
        assert!(allows(&[], "all"), "allowed where nobody said anything");
        assert!(allows(&[&internal], "internal") && !allows(&[&internal], "all"));
        assert!(!allows(&[&all, &internal], "all"), "replaced");
        let both = inheriting(internal.clone());
        assert!(allows(&[&all, &both], "all") && allows(&[&all, &both], "internal"));
        let denied = inheriting(values(&[], &["all"]));
        assert!(!allows(&[&all, &denied], "all"), "what is denied anywhere is denied");
        assert!(!allows(&[&both], "all"), "inheriting from nobody adds nothing");
        assert!(!allows(&[&says(Says::DenyAll), &both], "internal"));
        assert!(allows(&[&says(Says::DenyAll), &internal], "internal"));
    }

    #[test]
    fn some_things_have_no_name_and_some_have_several() {
        let customers = Constraint::named("iam.allowedPolicyMemberDomains").unwrap();
        let ours = of(customers, [&values(&["C0haar000"], &[])]);
        assert!(ours.allows(&["C0haar000", "principalSet://x"]) && !ours.allows(&[]));
        assert!(of(customers, [&values(&[], &["C0haar000"])]).allows(&[]));
        let lifetimes = Constraint::named("iam.allowServiceAccountCredentialLifetimeExtension").unwrap();
        assert!(!of(lifetimes, []).allows(&["a@b"]), "denied where nobody said anything");
    }

    fn any_spec() -> impl Strategy<Value = SpecRecord> {
        let value = prop::sample::select(vec!["all", "internal", "is:internal-and-cloud-load-balancing"]);
        let some = prop::collection::vec(value.prop_map(str::to_owned), 0..3);
        let says = prop::sample::select(vec![Says::Values, Says::AllowAll, Says::DenyAll]);
        let rule = (says, some.clone(), some).prop_map(|(says, allowed, denied)| match says {
            Says::Values => RuleRecord { says: says.into(), allowed, denied },
            _ => RuleRecord { says: says.into(), ..RuleRecord::default() },
        });
        (prop::collection::vec(rule, 0..3), any::<bool>(), any::<bool>())
            .prop_map(|(rules, inherit, reset)| SpecRecord { update_time: 0, rules, inherit, reset })
    }

    proptest! {
        #[test]
        fn what_is_shown_means_what_holds(specs in prop::collection::vec(any_spec(), 0..4)) {
            let held = of(list(), &specs);
            let shown = SpecRecord { rules: held.rules(), ..SpecRecord::default() };
            let again = of(list(), [&shown]);
            for name in ["all", "internal", "internal-and-cloud-load-balancing", "other"] {
                prop_assert_eq!(held.allows(&[name]), again.allows(&[name]), "{}", name);
            }
        }

        #[test]
        fn what_is_denied_above_stays_denied_to_who_inherits(above in any_spec(), below in any_spec()) {
            let below = SpecRecord { inherit: true, reset: false, ..below };
            let both = of(list(), [&above, &below]);
            for name in ["all", "internal"] {
                let denied = above.rules.iter().any(|rule| rule.denied.iter().any(|value| value == name));
                prop_assert!(above.reset || !denied || !both.allows(&[name]));
            }
        }
    }
}
