//! The smallest set of roles that allows something.
//!
//! "Smallest" means the fewest permissions in all: two narrow roles are better than one that can do everything. Of sets
//! that allow equally much the one with fewer roles is chosen, and of those the one that is there already.
//!
//! This is set cover, which is hard in general and small here: an account uses a handful of permissions on one resource,
//! and a dozen roles have any of them. A greedy choice gives a first answer (the role that adds the fewest permissions for
//! each that is needed); then all others are gone through, branching on the needed permission that the fewest roles have,
//! and leaving what is already larger than the best. After [`MOST_STEPS`] steps the best so far counts: up to there the
//! answer is exact, beyond it is at least as good as the greedy one. Steps are counted and not time, so the same question
//! has the same answer on any machine.

use crate::roles::{Permission, PermissionSet};

/// How many choices are tried.
const MOST_STEPS: u32 = 20_000;

/// A role that may be chosen.
pub(super) struct Candidate {
    /// What it allows.
    pub set: PermissionSet,
    /// Whether it is there already.
    pub is_held: bool,
}

/// How much a choice allows, how many roles it takes, and how many of them are new. The smallest is the best.
type Cost = (u32, usize, usize);

/// The best choice among the candidates for what is needed, by index in ascending order. What no candidate has is not
/// covered.
pub(super) fn cover(needed: &PermissionSet, candidates: &[Candidate]) -> Vec<usize> {
    let mut covered = PermissionSet::default();
    candidates.iter().for_each(|one| covered.add(&one.set));
    let needed: Vec<Permission> = needed.iter().filter(|one| covered.contains(*one)).collect();
    let first = greedy(&needed, candidates);
    let mut search = Search { candidates, needed: by_rarity(needed, candidates), best: first, steps: 0 };
    search.go(&mut Vec::new(), &PermissionSet::default());
    search.best.1.sort_unstable();
    search.best.1
}

/// The permissions that the fewest candidates have come first.
fn by_rarity(mut needed: Vec<Permission>, candidates: &[Candidate]) -> Vec<Permission> {
    needed.sort_by_key(|one| candidates.iter().filter(|candidate| candidate.set.contains(*one)).count());
    needed
}

fn cost(chosen: &[usize], candidates: &[Candidate]) -> Cost {
    let mut union = PermissionSet::default();
    chosen.iter().for_each(|index| union.add(&candidates[*index].set));
    let fresh = chosen.iter().filter(|index| !candidates[**index].is_held).count();
    (union.len(), chosen.len(), fresh)
}

fn greedy(needed: &[Permission], candidates: &[Candidate]) -> (Cost, Vec<usize>) {
    let (mut chosen, mut union) = (Vec::new(), PermissionSet::default());
    loop {
        let missing = |set: &PermissionSet| {
            needed.iter().filter(|one| !union.contains(**one) && set.contains(**one)).count() as u64
        };
        let added = |set: &PermissionSet| {
            let mut with = union;
            with.add(set);
            u64::from(with.len() - union.len())
        };
        let useful = candidates.iter().enumerate().filter(|(_, one)| missing(&one.set) > 0);
        // The least added for each that is covered, in thousandths: no fractions, so no rounding that differs.
        let price = |set: &PermissionSet| added(set) * 1000 / missing(set).max(1);
        match useful.min_by_key(|(_, one)| (price(&one.set), !one.is_held)) {
            None => return (cost(&chosen, candidates), chosen),
            Some((index, one)) => {
                chosen.push(index);
                union.add(&one.set);
            }
        }
    }
}

struct Search<'c> {
    candidates: &'c [Candidate],
    needed: Vec<Permission>,
    best: (Cost, Vec<usize>),
    steps: u32,
}

impl Search<'_> {
    fn go(&mut self, chosen: &mut Vec<usize>, union: &PermissionSet) {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return;
        }
        let Some(missing) = self.needed.iter().find(|one| !union.contains(**one)).copied() else {
            let cost = cost(chosen, self.candidates);
            if cost < self.best.0 {
                self.best = (cost, chosen.clone());
            }
            return;
        };
        for (index, candidate) in self.candidates.iter().enumerate() {
            if !candidate.set.contains(missing) {
                continue;
            }
            let mut with = *union;
            with.add(&candidate.set);
            if (with.len(), chosen.len() + 1) <= (self.best.0.0, self.best.0.1) || with.len() < self.best.0.0
            {
                chosen.push(index);
                self.go(chosen, &with);
                chosen.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::roles::Role;

    fn set(indices: impl IntoIterator<Item = usize>) -> PermissionSet {
        let names: Vec<String> = indices
            .into_iter()
            .filter_map(|index| Permission::all().nth(index).map(|one| one.name().to_owned()))
            .collect();
        PermissionSet::named(&names)
    }

    fn fresh(set: PermissionSet) -> Candidate {
        Candidate { set, is_held: false }
    }

    #[test]
    fn two_narrow_roles_are_better_than_a_wide_one() {
        let candidates = [fresh(set(0..10)), fresh(set([0, 1])), fresh(set([2, 3])), fresh(set([4]))];
        assert_eq!(cover(&set([0, 2]), &candidates), [1, 2]);
        assert_eq!(cover(&set([0, 2, 9]), &candidates), [0], "what only the wide one has");
        assert_eq!(cover(&set([11]), &candidates), [0usize; 0], "what nobody has is left");
    }

    #[test]
    fn of_equals_the_one_that_is_there_stays() {
        let held = Candidate { set: set([0, 1]), is_held: true };
        assert_eq!(cover(&set([0]), &[fresh(set([0, 2])), held]), [1]);
    }

    #[test]
    fn greedy_would_take_more() {
        // Greedy begins with what covers most for its size, and then needs both others anyway.
        let candidates = [fresh(set([0, 1, 2, 10])), fresh(set([0, 1, 3, 11])), fresh(set([2, 4, 12, 5]))];
        let chosen = cover(&set([0, 1, 2, 3, 4, 5]), &candidates);
        assert_eq!(chosen, [1, 2]);
    }

    #[test]
    fn googles_own_roles_are_few_enough() {
        let roles: Vec<Candidate> = Role::all()
            .iter()
            .filter(|role| role.basic().is_none())
            .map(|role| fresh(*role.permissions()))
            .collect();
        let names = |permissions: &[&str]| {
            let names: Vec<String> = permissions.iter().map(|name| (*name).to_owned()).collect();
            let chosen = cover(&PermissionSet::named(&names), &roles);
            let all: Vec<&Role> = Role::all().iter().filter(|role| role.basic().is_none()).collect();
            chosen.into_iter().map(|index| all[index].name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["secretmanager.versions.access"]), ["roles/secretmanager.secretAccessor"]);
        assert_eq!(names(&["run.routes.invoke"]), ["roles/run.servicesInvoker"]);
        assert_eq!(names(&["cloudsql.instances.connect"]), ["roles/cloudsql.client"]);
        assert_eq!(names(&["iam.serviceAccounts.actAs"]), ["roles/iam.serviceAccountUser"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn it_is_as_good_as_trying_everything(
            sets in proptest::collection::vec(proptest::collection::vec(0usize..9, 1..5), 1..9),
            needed in proptest::collection::vec(0usize..9, 1..6),
        ) {
            let candidates: Vec<Candidate> = sets.into_iter().map(|one| fresh(set(one))).collect();
            let mut all = PermissionSet::default();
            candidates.iter().for_each(|one| all.add(&one.set));
            let wanted: Vec<Permission> = set(needed.iter().copied()).iter().filter(|one| all.contains(*one)).collect();
            let best = (0u32..1 << candidates.len())
                .map(|mask| (0..candidates.len()).filter(|index| mask >> index & 1 == 1).collect::<Vec<_>>())
                .filter(|chosen| wanted.iter().all(|one| chosen.iter().any(|index| candidates[*index].set.contains(*one))))
                .map(|chosen| cost(&chosen, &candidates))
                .min()
                .unwrap();
            let chosen = cover(&set(needed), &candidates);
            prop_assert_eq!(cost(&chosen, &candidates), best);
        }
    }
}
