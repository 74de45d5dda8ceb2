//! CPU and memory: quantities as Kubernetes writes them, and which of them Cloud Run lets be together.
//!
//! Sources: <https://cloud.google.com/run/docs/configuring/services/cpu>, `…/memory-limits`.

use super::{Faults, MIB, SECOND_GENERATION as GEN2};
use crate::record::{Container, Template};

/// The least memory of an instance in it.
const GEN2_MEMORY: u64 = 512 * MIB;

/// Refuses what one container cannot have.
pub(super) fn check_container(path: &str, container: &Container, faults: &mut Faults) {
    let at = |what: &str| format!("{path}.resources.limits.{what}");
    let Some(cpu) = parse_cpu(&container.cpu) else {
        return faults
            .add(at("cpu"), format!("'{}' is not a quantity of CPU such as 1, 2 or 500m", container.cpu));
    };
    let Some(memory) = parse_memory(&container.memory) else {
        return faults.add(
            at("memory"),
            format!("'{}' is not a quantity of memory such as 512Mi or 2Gi", container.memory),
        );
    };
    let whole = matches!(cpu, 1000 | 2000 | 4000 | 6000 | 8000);
    faults.check(whole || ((80..1000).contains(&cpu) && cpu % 10 == 0), &at("cpu"), || {
        "Invalid value specified for cpu. It must be 1, 2, 4, 6 or 8, or between 0.08 and 1 in steps of 0.01.".into()
    });
    let (least, most) = memory_for(cpu);
    faults.check((least..=most).contains(&memory), &at("memory"), || {
        format!("Invalid value specified for container memory. {}", between(cpu, least, most))
    });
}

/// Refuses what an instance as a whole cannot have.
pub(super) fn check_instance(path: &str, template: &Template, faults: &mut Faults) {
    let cpus = template.containers.iter().map(|container| parse_cpu(&container.cpu));
    let memories = template.containers.iter().map(|container| parse_memory(&container.memory));
    // One that cannot be read has been found already.
    let (Some(cpu), Some(memory)) = (cpus.sum::<Option<u32>>(), memories.sum::<Option<u64>>()) else {
        return;
    };
    let is_gen2 = template.execution_environment == GEN2;
    if is_gen2 && memory < GEN2_MEMORY {
        let (_, most) = memory_for(cpu);
        faults.add(
            format!("{path}.resources.limits.memory"),
            format!(
                "Invalid value specified for memory with gen2 execution environment. {}",
                between(cpu, GEN2_MEMORY, most)
            ),
        );
    }
    if cpu >= 1000 {
        return;
    }
    let always = template.containers.iter().any(|container| !container.cpu_idle);
    for (holds, what) in [
        (template.concurrency > 1, "concurrency > 1"),
        (always, "CPU always allocated"),
        (is_gen2, "gen2 execution environment"),
    ] {
        faults.check(!holds, &format!("{path}.resources.limits.cpu"), || {
            format!("Invalid value specified for cpu. Total cpu < 1 is not supported with {what}.")
        });
    }
}

/// The least and the most memory beside so many thousandths of a CPU.
fn memory_for(cpu: u32) -> (u64, u64) {
    let least = match cpu {
        0..4000 => 128 * MIB,
        4000..6000 => 2048 * MIB,
        _ => 4096 * MIB,
    };
    let most = match cpu {
        0..500 => 512 * MIB,
        500..1000 => 1024 * MIB,
        1000..2000 => 4096 * MIB,
        2000..4000 => 8192 * MIB,
        4000..6000 => 16384 * MIB,
        6000..8000 => 24576 * MIB,
        _ => 32768 * MIB,
    };
    (least, most)
}

fn between(cpu: u32, least: u64, most: u64) -> String {
    let cpu = f64::from(cpu) / 1000.0;
    format!("For {cpu:?} CPU, memory must be between {} and {} inclusive.", quantity(least), quantity(most))
}

/// As Cloud Run writes it: `128Mi`, `4Gi`.
fn quantity(bytes: u64) -> String {
    match bytes / MIB {
        mib if mib >= 1024 && mib % 1024 == 0 => format!("{}Gi", mib / 1024),
        mib => format!("{mib}Mi"),
    }
}

/// A quantity of CPU in thousandths.
pub(super) fn parse_cpu(text: &str) -> Option<u32> {
    if let Some(millis) = text.strip_suffix('m') {
        return millis.parse().ok().filter(|millis| *millis <= 1_024_000);
    }
    let cpus: f64 = text.parse().ok()?;
    (cpus.is_finite() && (0.0..=1024.0).contains(&cpus)).then(|| (cpus * 1000.0).round() as u32)
}

/// Kubernetes quantities: bytes, or with a decimal or binary suffix.
pub(super) fn parse_memory(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes < 1 << 50)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_reads_them() {
        assert_eq!(
            [parse_cpu("1"), parse_cpu("500m"), parse_cpu("0.5"), parse_cpu("x"), parse_cpu("NaN")],
            [Some(1000), Some(500), Some(500), None, None]
        );
        assert_eq!(
            [
                parse_memory("512Mi"),
                parse_memory("1G"),
                parse_memory("7"),
                parse_memory("1Ti"),
                parse_memory("Mi")
            ],
            [Some(512 << 20), Some(1_000_000_000), Some(7), None, None]
        );
        assert_eq!(parse_memory("99999999999999999999Gi"), None);
    }

    fn said(cpu: &str, memory: &str, spoil: fn(&mut Template)) -> Option<String> {
        let container =
            Container { cpu: cpu.into(), memory: memory.into(), cpu_idle: true, ..Container::default() };
        let mut template = Template { concurrency: 1, containers: vec![container], ..Template::default() };
        spoil(&mut template);
        let mut faults = Faults::default();
        check_container("c", &template.containers[0], &mut faults);
        check_instance("c", &template, &mut faults);
        faults.into_result().err().map(|error| error.message().to_owned())
    }

    #[test]
    fn cpu_and_memory_go_together_as_on_cloud_run() {
        for (cpu, memory) in [
            ("1", "128Mi"),
            ("1", "4Gi"),
            ("2", "8Gi"),
            ("4", "2Gi"),
            ("8", "32Gi"),
            ("0.08", "512Mi"),
            ("500m", "1Gi"),
        ] {
            assert_eq!(said(cpu, memory, |_| ()), None, "{cpu} {memory}");
        }
        for (cpu, memory, what) in [
            ("1", "5Gi", "For 1.0 CPU, memory must be between 128Mi and 4Gi inclusive."),
            ("2", "9Gi", "For 2.0 CPU, memory must be between 128Mi and 8Gi inclusive."),
            ("4", "1Gi", "For 4.0 CPU, memory must be between 2Gi and 16Gi inclusive."),
            ("8", "2Gi", "For 8.0 CPU, memory must be between 4Gi and 32Gi inclusive."),
            ("0.4", "600Mi", "For 0.4 CPU, memory must be between 128Mi and 512Mi inclusive."),
            ("1", "64Mi", "between 128Mi and 4Gi"),
            ("3", "1Gi", "Invalid value specified for cpu."),
            ("0.07", "128Mi", "Invalid value specified for cpu."),
            ("0.085", "128Mi", "Invalid value specified for cpu."),
        ] {
            let message = said(cpu, memory, |_| ()).unwrap_or_else(|| panic!("{cpu} {memory} passes"));
            assert!(message.contains(what), "{cpu} {memory}: {message}");
        }
    }

    #[test]
    fn a_part_of_a_cpu_asks_for_more() {
        for (spoil, what) in [
            ((|t| t.concurrency = 2) as fn(&mut Template), "concurrency > 1"),
            (|t| t.containers[0].cpu_idle = false, "CPU always allocated"),
            (|t| t.execution_environment = GEN2, "gen2"),
        ] {
            let message = said("500m", "512Mi", spoil).unwrap();
            assert_eq!(
                message,
                format!(
                    "c.resources.limits.cpu: Invalid value specified for cpu. Total cpu < 1 is not supported with {what}{}.",
                    if what == "gen2" { " execution environment" } else { "" }
                )
            );
        }
        let message = said("1", "256Mi", |t| t.execution_environment = GEN2).unwrap();
        assert!(
            message.contains(
                "with gen2 execution environment. For 1.0 CPU, memory must be between 512Mi and 4Gi"
            )
        );
    }

    proptest! {
        #[test]
        fn no_quantity_is_too_odd(cpu in ".{0,12}", memory in ".{0,12}") {
            let _ = said(&cpu, &memory, |_| ());
        }
    }
}
