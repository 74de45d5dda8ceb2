//! What is asked for comes back, in whichever form it is read, and means the same when it is written again. Clients
//! rely on it: `gcloud` and Terraform read a service, change a part and write all of it.

use std::collections::BTreeMap;

use apis::google::{
    cloud::run::v2,
    discovery::run::v1::{self as knative},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{knative_read, knative_write, v2_read, v2_write};
use crate::{
    change::Place,
    record::{
        CloudSql, Container, EnvSource, EnvVar, GrpcProbe, HttpProbe, Kind, Memory, Mount, Probe, ProbeKind,
        Scaling, SecretFile, SecretFiles, SecretVersion, Service, TcpProbe, Template, Traffic, Volume,
        VolumeKind,
    },
    rules,
};

fn map(keys: &'static str) -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(keys, "[a-z]{0,5}", 0..3)
}

fn probe() -> impl Strategy<Value = Probe> {
    let kind = prop_oneof![
        ("(/[a-z]{0,4})?", 0u32..70000, map("[A-Z][a-z]{1,5}"))
            .prop_map(|(path, port, headers)| ProbeKind::Http(HttpProbe { path, port, headers })),
        (0u32..70000).prop_map(|port| ProbeKind::Tcp(TcpProbe { port })),
        (0u32..70000, "[a-z.]{0,6}").prop_map(|(port, service)| ProbeKind::Grpc(GrpcProbe { port, service })),
    ];
    let times = prop_oneof![(0u32..300, 0u32..300, 0u32..300, 0u32..5), Just((0, 240, 240, 1))];
    (times, kind).prop_map(|((initial_delay, timeout, period, failure_threshold), kind)| Probe {
        initial_delay,
        timeout,
        period,
        failure_threshold,
        kind: Some(kind),
        success_threshold: 0,
    })
}

fn readiness() -> impl Strategy<Value = Probe> {
    (probe(), 0u32..4).prop_map(|(probe, success_threshold)| Probe { success_threshold, ..probe })
}

fn variable() -> impl Strategy<Value = EnvVar> {
    let source = prop_oneof![
        "[ -~]{0,8}".prop_map(EnvSource::Value),
        ("(projects/[a-z]{1,3}/secrets/)?[a-z]{1,6}", select(vec!["latest", "1", "stable"])).prop_map(
            |(secret, version)| EnvSource::Secret(SecretVersion { secret, version: version.into() })
        ),
    ];
    ("[A-Z_]{1,6}", source).prop_map(|(name, source)| EnvVar { name, source: Some(source) })
}

fn container() -> impl Strategy<Value = Container> {
    let program = (vec("[a-z]{1,4}", 0..3), vec("[ -~]{0,4}", 0..3), vec(variable(), 0..4), "(/[a-z]{1,4})?");
    let resources =
        (select(vec!["", "1", "2", "500m"]), select(vec!["", "512Mi", "1Gi"]), any::<bool>(), any::<bool>());
    let port = (0u32..65536, select(vec!["", "http1", "h2c"]));
    let probes = (option::of(probe()), option::of(probe()), option::of(readiness()));
    ("[a-z/:.]{1,9}", program, resources, port, probes).prop_map(
        |(image, (command, args, env, working_dir), (cpu, memory, cpu_idle, boost), (port, name), probes)| {
            Container {
                image,
                command,
                args,
                env,
                working_dir,
                cpu: cpu.into(),
                memory: memory.into(),
                cpu_idle,
                startup_cpu_boost: boost,
                port,
                // Without a port there is nothing to name.
                port_name: if port == 0 { String::new() } else { name.into() },
                startup_probe: probes.0,
                liveness_probe: probes.1,
                readiness_probe: probes.2,
                ..Container::default()
            }
        },
    )
}

fn volume() -> impl Strategy<Value = (Volume, Mount)> {
    let file = ("[a-z]{1,4}(/[a-z]{1,3})?", select(vec!["latest", "1"]), 0u32..0o1000)
        .prop_map(|(path, version, mode)| SecretFile { path, version: version.into(), mode });
    let secret = ("(projects/[a-z]{1,3}/secrets/)?[a-z]{1,6}", vec(file, 0..3), 0u32..0o1000)
        .prop_map(|(secret, items, default_mode)| SecretFiles { secret, items, default_mode });
    let kind = prop_oneof![
        secret.prop_map(VolumeKind::Secret),
        select(vec!["", "8Mi"]).prop_map(|limit| VolumeKind::Memory(Memory { size_limit: limit.into() })),
        vec("[a-z]{1,3}:[a-z]{1,3}:[a-z]{1,3}", 1..3)
            .prop_map(|instances| VolumeKind::CloudSql(CloudSql { instances })),
    ];
    (kind, "/[a-z]{1,4}/?").prop_map(|(kind, path)| {
        let databases = matches!(kind, VolumeKind::CloudSql(_));
        let name = if databases { rules::CLOUD_SQL_VOLUME.to_owned() } else { path.replace('/', "v") };
        let path = if databases { String::new() } else { path };
        (Volume { name: name.clone(), kind: Some(kind) }, Mount { volume: name, path })
    })
}

/// A container's volumes, no two of one name.
fn volumes() -> impl Strategy<Value = (Vec<Volume>, Vec<Mount>)> {
    vec(volume(), 0..4).prop_map(|mut all| {
        let mut names = std::collections::HashSet::new();
        all.retain(|(volume, _)| names.insert(volume.name.clone()));
        all.into_iter().unzip()
    })
}

prop_compose! {
    fn template()(
        revision in "(tide-[a-z]{1,4})?",
        labels in map("[a-z]{1,5}"),
        annotations in map("example.com/[a-z]{1,5}"),
        scaling in option::of((option::of(0u32..5), option::of(0u32..50))),
        numbers in (0u32..4000, 0u32..1100),
        service_account in "([a-z]{1,4}@demo)?",
        mut container in container(),
        (volumes, mounts) in volumes(),
        session_affinity: bool,
        execution_environment in 0i32..3,
    ) -> Template {
        container.mounts = mounts;
        let mut template = Template {
            revision,
            labels,
            annotations,
            scaling: scaling.map(|(min, max)| Scaling { min, max: max.filter(|max| *max > 0), manual: None }),
            timeout_seconds: numbers.0,
            concurrency: numbers.1,
            service_account,
            containers: vec![container],
            session_affinity,
            execution_environment,
            volumes,
            edition: 0,
        };
        rules::complete(Kind::Service, &mut template, 7);
        template
    }
}

fn target() -> impl Strategy<Value = Traffic> {
    ("(tide-[a-z]{1,4})?", 0u32..101, "[a-z]{0,4}").prop_map(|(revision, percent, tag)| Traffic {
        revision,
        percent,
        tag,
        latest: false,
    })
}

fn completed(mut template: Template) -> Template {
    rules::complete(Kind::Service, &mut template, 7);
    template
}

proptest! {
    #[test]
    fn a_template_comes_back_from_the_knative_form(template in template()) {
        let written = knative_write::template(&template);
        prop_assert_eq!(completed(knative_read::template(written).unwrap()), template);
    }

    #[test]
    fn a_template_comes_back_from_v2(template in template()) {
        let mut read = v2_read::template(v2_write::template(&template)).unwrap();
        v2_read::keep_unsaid(&mut read, &template);
        prop_assert_eq!(completed(read), template);
    }

    #[test]
    fn traffic_comes_back_from_both(traffic in vec(target(), 1..4)) {
        let service = Service { traffic, ..Service::default() };
        for (one, other) in [
            knative_write::asked_traffic(&service).into_iter().map(knative_read::traffic).collect::<Vec<_>>(),
            v2_write::asked_traffic(&service).into_iter().map(v2_read::traffic).collect(),
        ].iter().flat_map(|read| read.iter().zip(&service.traffic)) {
            prop_assert_eq!(one.as_ref().unwrap(), other);
        }
    }

    #[test]
    fn no_manifest_causes_a_panic(
        words in vec((select(KEYS.to_vec()), "[ -~]{0,9}"), 0..8),
        numbers in vec(any::<i32>(), 9),
        texts in vec("[ -~]{0,9}", 4),
    ) {
        let annotations: BTreeMap<String, String> =
            words.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let metadata = knative::ObjectMeta { annotations, ..Default::default() };
        examine(knative_read::desired(&strange_manifest(metadata, &numbers, &texts)));
        examine(v2_read::desired(&strange_service(&numbers, &texts)));
    }
}

/// Annotations with a meaning.
const KEYS: [&str; 14] = [
    "run.googleapis.com/ingress",
    "run.googleapis.com/invoker-iam-disabled",
    "run.googleapis.com/custom-audiences",
    "run.googleapis.com/launch-stage",
    "run.googleapis.com/minScale",
    "run.googleapis.com/manualInstanceCount",
    "run.googleapis.com/secrets",
    "run.googleapis.com/cpu-throttling",
    "run.googleapis.com/startup-cpu-boost",
    "run.googleapis.com/cloudsql-instances",
    "run.googleapis.com/sessionAffinity",
    "run.googleapis.com/execution-environment",
    "autoscaling.knative.dev/minScale",
    "autoscaling.knative.dev/maxScale",
];

/// Does with what was read what a change does.
fn examine(desired: kernel::Result<crate::change::Desired>) {
    if let Ok(mut desired) = desired {
        rules::complete(Kind::Service, &mut desired.template, 7);
        let (project, region) = ("demo".into(), "us-central1".into());
        let place = Place { kind: Kind::Service, project, region, name: "tide".into() };
        if rules::check(&place, &desired).is_ok() {
            knative_write::template(&desired.template);
            v2_write::template(&desired.template);
        }
    }
}

fn strange_manifest(metadata: knative::ObjectMeta, numbers: &[i32], texts: &[String]) -> knative::Service {
    let probe = knative::Probe {
        initial_delay_seconds: Some(numbers[0]),
        timeout_seconds: Some(numbers[1]),
        period_seconds: Some(numbers[2]),
        failure_threshold: Some(numbers[3]),
        tcp_socket: Some(knative::TcpSocketAction { port: Some(numbers[4]), host: None }),
        ..Default::default()
    };
    let limits = [("cpu".to_owned(), texts[0].clone()), ("memory".to_owned(), texts[1].clone())];
    let container = knative::Container {
        image: Some(texts[2].clone()),
        ports: vec![knative::ContainerPort {
            container_port: Some(numbers[5]),
            name: Some(texts[3].clone()),
            protocol: None,
        }],
        resources: Some(knative::ResourceRequirements { limits: limits.into(), ..Default::default() }),
        startup_probe: Some(probe.clone()),
        readiness_probe: Some(knative::Probe { success_threshold: Some(numbers[0]), ..probe }),
        ..Default::default()
    };
    knative::Service {
        metadata: Some(metadata.clone()),
        spec: Some(knative::ServiceSpec {
            template: Some(knative::RevisionTemplate {
                metadata: Some(metadata),
                spec: Some(knative::RevisionSpec {
                    containers: vec![container],
                    timeout_seconds: Some(numbers[6]),
                    container_concurrency: Some(numbers[7]),
                    ..Default::default()
                }),
            }),
            traffic: vec![knative::TrafficTarget { percent: Some(numbers[8]), ..Default::default() }],
        }),
        ..Default::default()
    }
}

fn strange_service(numbers: &[i32], texts: &[String]) -> v2::Service {
    v2::Service {
        ingress: numbers[0],
        launch_stage: numbers[1],
        scaling: Some(v2::ServiceScaling { manual_instance_count: Some(numbers[2]), ..Default::default() }),
        template: Some(v2::RevisionTemplate {
            execution_environment: numbers[3],
            max_instance_request_concurrency: numbers[4],
            timeout: Some(prost_types::Duration { seconds: numbers[5].into(), nanos: numbers[6] }),
            containers: vec![v2::Container {
                image: texts[0].clone(),
                ports: vec![v2::ContainerPort { name: texts[1].clone(), container_port: numbers[7] }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        traffic: vec![v2::TrafficTarget {
            r#type: numbers[8],
            revision: texts[2].clone(),
            percent: numbers[6],
            tag: texts[3].clone(),
        }],
        ..Default::default()
    }
}
