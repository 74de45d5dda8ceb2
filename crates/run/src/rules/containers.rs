//! What Cloud Run accepts as containers of one instance: which have ports, and the order in which they start.

use super::Faults;
use crate::record::{Container, Template};

/// The most containers of an instance.
const MOST: usize = 10;
/// The longest name.
const MAX_NAME: usize = 63;

/// Gives containers without a name the one that Cloud Run gives them. One alone needs none.
pub(super) fn name(template: &mut Template, service: &str) {
    if template.containers.len() < 2 {
        return;
    }
    for (index, container) in template.containers.iter_mut().enumerate() {
        if container.name.is_empty() {
            container.name = format!("{service}-{}", index + 1);
        }
    }
}

pub(super) fn check(path: &str, containers: &[Container], faults: &mut Faults) {
    faults.check(containers.len() <= MOST, path, || format!("should have at most {MOST} containers"));
    for (index, container) in containers.iter().enumerate() {
        check_name(&format!("{path}[{index}].name"), &containers[..index], container, faults);
        check_needs(&format!("{path}[{index}].depends_on"), containers, container, faults);
    }
    faults.check(ordered(containers).is_some(), path, || {
        "Containers must not depend on each other in a circle.".into()
    });
}

/// Refuses a service's containers when not one of them takes requests.
pub(super) fn check_port(path: &str, containers: &[Container], faults: &mut Faults) {
    let with_ports = containers.iter().filter(|container| container.port != 0).count();
    faults.check(with_ports == 1 || containers.is_empty(), path, || {
        "Revision template should contain exactly one container with an exposed port.".into()
    });
}

/// Refuses a worker pool's containers when one of them would take requests.
pub(super) fn check_portless(path: &str, containers: &[Container], faults: &mut Faults) {
    for (index, container) in containers.iter().enumerate() {
        faults.check(container.port == 0, &format!("{path}[{index}].ports"), || {
            "A worker pool takes no requests; its containers must not expose a port.".into()
        });
    }
}

fn check_name(field: &str, before: &[Container], container: &Container, faults: &mut Faults) {
    let name = &container.name;
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let allowed = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    let ends = is_end(name.as_bytes().first()) && is_end(name.as_bytes().last());
    faults.check(allowed && ends && name.len() <= MAX_NAME, field, || {
        format!(
            "Invalid container name '{name}'. Must conform to RFC 1123: only lowercase letters, digits, hyphens, and \
             periods are allowed, must begin and end with a letter or digit, and be less than 64 characters"
        )
    });
    faults.check(before.iter().all(|other| other.name != *name), field, || {
        format!("Container names must be unique; '{name}' is there more than once.")
    });
}

fn check_needs(field: &str, containers: &[Container], container: &Container, faults: &mut Faults) {
    for need in &container.depends_on {
        match containers.iter().find(|other| other.name == *need) {
            None => faults.add(field, format!("Container '{need}' does not exist.")),
            // The one with a port has a probe of Cloud Run's.
            Some(needed) => faults.check(needed.startup_probe.is_some() || needed.port != 0, field, || {
                format!("Dependent container '{need}' must have startup probe specified")
            }),
        }
    }
}

/// The containers' indices in an order in which each comes after those that it depends on; none if there is no such.
pub(crate) fn ordered(containers: &[Container]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < containers.len() {
        let is_met = |need: &String| order.iter().any(|index| containers[*index].name == *need);
        let next = (0..containers.len())
            .find(|index| !order.contains(index) && containers[*index].depends_on.iter().all(is_met))?;
        order.push(next);
    }
    Some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_after_what_it_needs() {
        let container = |name: &str, needs: &[&str]| Container {
            name: name.into(),
            depends_on: needs.iter().map(|need| need.to_string()).collect(),
            ..Container::default()
        };
        let order = ordered(&[container("a", &["c"]), container("b", &[]), container("c", &["b"])]);
        assert_eq!(order, Some(vec![1, 2, 0]));
        assert_eq!(ordered(&[container("a", &["b"]), container("b", &["a"])]), None);
        assert_eq!(ordered(&[container("a", &["gone"])]), None);
    }
}
