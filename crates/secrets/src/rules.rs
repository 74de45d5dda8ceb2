//! What Google demands of a secret's settings and payloads.
//!
//! The limits are those of the reference (`google.cloud.secretmanager.v1`, quotas page). Each check names the
//! field that is wrong. Whether an alias points at a version that exists is state, and asked by the engine.

use kernel::{Error, Result, time::Micros};

use crate::{
    names,
    record::{Rotation, Settings},
};

/// The most bytes in a payload.
pub(crate) const MAX_PAYLOAD: usize = 65_536;
const MAX_LABELS: usize = 64;
const MAX_KEY_CHARS: usize = 63;
const MAX_KEY_BYTES: usize = 128;
const MAX_ANNOTATION_BYTES: usize = 16 * 1024;
const MAX_ALIASES: usize = 50;
const MAX_TOPICS: usize = 10;
const DAY: u64 = 86_400;
const CENTURY: Micros = Micros::seconds(36_500 * DAY);
const MIN_ROTATION_PERIOD: Micros = Micros::seconds(3600);
const MIN_ROTATION_NOTICE: Micros = Micros::seconds(300);
const MIN_TTL: Micros = Micros::seconds(60);
const MIN_DESTROY_DELAY: Micros = Micros::seconds(DAY);
const MAX_DESTROY_DELAY: Micros = Micros::seconds(1000 * DAY);

/// What of a secret can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// `labels`.
    Labels,
    /// `annotations`.
    Annotations,
    /// `version_aliases`.
    Aliases,
    /// `topics`.
    Topics,
    /// `expire_time` or `ttl`.
    Expiration,
    /// `rotation`.
    Rotation,
    /// `rotation.next_rotation_time`.
    NextRotation,
    /// `rotation.rotation_period`.
    RotationPeriod,
    /// `version_destroy_ttl`.
    DestroyDelay,
    /// `replication`, of which keys can change.
    Replication,
    /// `customer_managed_encryption`, of a regional secret.
    Key,
}

impl Field {
    /// Every field, once.
    pub(crate) const ALL: [Field; 7] = [
        Field::Labels,
        Field::Annotations,
        Field::Aliases,
        Field::Topics,
        Field::Expiration,
        Field::Rotation,
        Field::DestroyDelay,
    ];

    /// Takes this field over from other settings.
    pub(crate) fn copy(self, from: &Settings, to: &mut Settings) {
        match self {
            Field::Labels => to.labels.clone_from(&from.labels),
            Field::Annotations => to.annotations.clone_from(&from.annotations),
            Field::Aliases => to.aliases.clone_from(&from.aliases),
            Field::Topics => to.topics.clone_from(&from.topics),
            Field::Expiration => to.expires = from.expires,
            Field::Rotation => to.rotation = from.rotation,
            Field::NextRotation => {
                let next = from.rotation.and_then(|rotation| rotation.next);
                to.rotation = to.rotation.unwrap_or_default().with_next(next);
            }
            Field::RotationPeriod => {
                let period = from.rotation.and_then(|rotation| rotation.period);
                to.rotation = to.rotation.unwrap_or_default().with_period(period);
            }
            Field::DestroyDelay => to.destroy_delay = from.destroy_delay,
            Field::Replication | Field::Key => to.keys.clone_from(&from.keys),
        }
    }
}

/// Checks the fields that a call sets, in the settings as they would be afterwards. What was set earlier is
/// not judged again: a rotation time that has passed since does not forbid a new label.
pub(crate) fn check(settings: &Settings, set: &[Field], now: Micros) -> Result<()> {
    set.iter().try_for_each(|field| match field {
        Field::Labels => labels(settings),
        Field::Annotations => annotations(settings),
        Field::Aliases => aliases(settings),
        Field::Topics | Field::RotationPeriod => rotation(settings),
        Field::Rotation | Field::NextRotation => {
            rotation(settings).and_then(|()| next_rotation(settings, now))
        }
        Field::Expiration => expiration(settings, now),
        Field::DestroyDelay => destroy_delay(settings),
        // Which keys there may be depends on where the secret is.
        Field::Replication | Field::Key => Ok(()),
    })?;
    if set.contains(&Field::Topics) { topics(settings) } else { Ok(()) }
}

/// Checks where the data of a new secret is to be kept.
pub(crate) fn check_replicas(replicas: &[String]) -> Result<()> {
    let field = "secret.replication.user_managed.replicas";
    if let Some(bad) = replicas.iter().find(|text| !names::is_location(text)) {
        return Err(Error::bad_field(field, format!("Location [{bad}] is not a valid replica location.")));
    }
    let distinct: std::collections::BTreeSet<_> = replicas.iter().collect();
    if distinct.len() != replicas.len() {
        return Err(Error::bad_field(field, "Replica locations must be distinct."));
    }
    Ok(())
}

/// Checks the names of the customer's keys: all replicas have one or none has, and each is where what it encrypts is.
pub(crate) fn check_keys(settings: &Settings, location: Option<&str>) -> Result<()> {
    let wrong = |text: String| Err(Error::bad_field("secret.customer_managed_encryption.kms_key_name", text));
    if settings.keys.is_empty() {
        return Ok(());
    }
    let replicas: Vec<&str> = match (location, &*settings.replicas) {
        (Some(location), _) => vec![location],
        (None, []) => vec!["global"],
        (None, replicas) => replicas.iter().map(|replica| &**replica).collect(),
    };
    for (key, place) in settings.keys.iter().zip(&replicas) {
        match names::key_location(key) {
            Some(of_key) if of_key == *place => {}
            Some(of_key) => {
                return wrong(format!("The key [{key}] is in [{of_key}]; it must be in [{place}]."));
            }
            None if key.is_empty() => {
                return wrong("Either all replicas have a customer-managed key, or none has.".to_owned());
            }
            None => {
                return wrong(format!(
                    "The key [{key}] is not of the form projects/*/locations/*/keyRings/*/cryptoKeys/*."
                ));
            }
        }
    }
    match settings.keys.len() == replicas.len() {
        true => Ok(()),
        false => wrong("Each replica has one customer-managed key.".to_owned()),
    }
}

/// Checks a payload, and the checksum that came with it.
pub(crate) fn check_payload(data: &[u8], checksum: Option<i64>) -> Result<u32> {
    if data.is_empty() {
        return Err(Error::bad_field("payload.data", "Secret Payload cannot be empty."));
    }
    if data.len() > MAX_PAYLOAD {
        let len = data.len();
        let text = format!("The payload has {len} bytes; a secret payload has at most {MAX_PAYLOAD} bytes.");
        return Err(Error::bad_field("payload.data", text));
    }
    let crc = crc32c::crc32c(data);
    match checksum {
        Some(given) if given != i64::from(crc) => Err(Error::bad_field(
            "payload.data_crc32c",
            format!("The checksum [{given}] does not match the payload: its CRC32C is another."),
        )),
        _ => Ok(crc),
    }
}

fn labels(settings: &Settings) -> Result<()> {
    let wrong = |text: String| Err(Error::bad_field("secret.labels", text));
    if settings.labels.len() > MAX_LABELS {
        return wrong(format!("A secret has at most {MAX_LABELS} labels."));
    }
    for (key, value) in &settings.labels {
        if !(fits(key) && key.starts_with(is_small_letter) && key.chars().all(is_label_char)) {
            return wrong(format!(
                "Label key [{key}] is not valid: use 1 to 63 lowercase letters, digits, '_' and '-', a letter first."
            ));
        }
        if !((value.is_empty() || fits(value)) && value.chars().all(is_label_char)) {
            return wrong(format!(
                "The value of label [{key}] is not valid: use up to 63 lowercase letters, digits, '_' and '-'."
            ));
        }
    }
    Ok(())
}

fn annotations(settings: &Settings) -> Result<()> {
    let wrong = |text: String| Err(Error::bad_field("secret.annotations", text));
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    for key in settings.annotations.keys() {
        let good = fits(key)
            && key.starts_with(alphanumeric)
            && key.ends_with(alphanumeric)
            && key.chars().all(|c| alphanumeric(c) || "-_.".contains(c));
        if !good {
            return wrong(format!(
                "Annotation key [{key}] is not valid: use 1 to 63 letters, digits, '-', '_' and '.', a letter or digit first and last."
            ));
        }
    }
    let size: usize = settings.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size >= MAX_ANNOTATION_BYTES {
        return wrong("Annotation keys and values must be less than 16 KiB in total.".to_owned());
    }
    Ok(())
}

fn aliases(settings: &Settings) -> Result<()> {
    let wrong = |text: String| Err(Error::bad_field("secret.version_aliases", text));
    if settings.aliases.len() > MAX_ALIASES {
        return wrong(format!("A secret has at most {MAX_ALIASES} version aliases."));
    }
    match settings.aliases.keys().find(|alias| !names::is_alias(alias)) {
        Some(bad) => wrong(format!(
            "Version alias [{bad}] is not valid: use up to 63 letters, digits, '-' and '_', a letter first, and neither 'latest' nor 'NEW'."
        )),
        None => Ok(()),
    }
}

fn topics(settings: &Settings) -> Result<()> {
    let wrong = |text: String| Err(Error::bad_field("secret.topics", text));
    if settings.topics.len() > MAX_TOPICS {
        return wrong(format!("A secret has at most {MAX_TOPICS} topics."));
    }
    match settings.topics.iter().find(|name| kernel::names::parse(name, ["projects", "topics"]).is_none()) {
        Some(bad) => wrong(format!("Topic [{bad}] is not of the form projects/*/topics/*.")),
        None => Ok(()),
    }
}

fn rotation(settings: &Settings) -> Result<()> {
    let Some(Rotation { next, period }) = settings.rotation else { return Ok(()) };
    if settings.topics.is_empty() {
        return Err(Error::bad_field("secret.topics", "Secret.topics must be set to configure rotation."));
    }
    if period.is_some_and(|period| !(MIN_ROTATION_PERIOD.0..=CENTURY.0).contains(&period)) {
        let text = "rotation_period must be at least 3600s (1h) and at most 3153600000s (100 years).";
        return Err(Error::bad_field("secret.rotation.rotation_period", text));
    }
    if next.is_none() {
        let text = "next_rotation_time must be set to configure rotation.";
        return Err(Error::bad_field("secret.rotation.next_rotation_time", text));
    }
    Ok(())
}

fn next_rotation(settings: &Settings, now: Micros) -> Result<()> {
    let Some(next) = settings.rotation.and_then(|rotation| rotation.next) else { return Ok(()) };
    if (now.later(MIN_ROTATION_NOTICE).0..=now.later(CENTURY).0).contains(&next) {
        return Ok(());
    }
    let text = "next_rotation_time must be at least 300s and at most 100 years in the future.";
    Err(Error::bad_field("secret.rotation.next_rotation_time", text))
}

fn expiration(settings: &Settings, now: Micros) -> Result<()> {
    let Some(at) = settings.expires else { return Ok(()) };
    if (now.later(MIN_TTL).0..=now.later(CENTURY).0).contains(&at) {
        return Ok(());
    }
    let text = "The expiration must be at least 60s and at most 100 years in the future.";
    Err(Error::bad_field("secret.expire_time", text))
}

fn destroy_delay(settings: &Settings) -> Result<()> {
    match settings.destroy_delay {
        Some(delay) if !(MIN_DESTROY_DELAY.0..=MAX_DESTROY_DELAY.0).contains(&delay) => {
            Err(Error::bad_field(
                "secret.version_destroy_ttl",
                "version_destroy_ttl must be at least 86400s (1 day) and at most 86400000s (1000 days).",
            ))
        }
        _ => Ok(()),
    }
}

fn fits(text: &str) -> bool {
    text.len() <= MAX_KEY_BYTES && (1..=MAX_KEY_CHARS).contains(&text.chars().count())
}

/// `[\p{Ll}\p{Lo}]`.
fn is_small_letter(c: char) -> bool {
    c.is_alphabetic() && !c.is_uppercase()
}

/// `[\p{Ll}\p{Lo}\p{N}_-]`.
fn is_label_char(c: char) -> bool {
    is_small_letter(c) || c.is_numeric() || c == '_' || c == '-'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Micros = Micros::seconds(1_767_225_600);

    /// Checks settings that were made from nothing by this change.
    fn verdict(change: impl FnOnce(&mut Settings)) -> Result<()> {
        let mut settings = Settings::default();
        change(&mut settings);
        check(&settings, &Field::ALL, NOW)
    }

    fn label(key: &str, value: &str) -> Result<()> {
        verdict(|s| drop(s.labels.insert(key.into(), value.into())))
    }

    #[test]
    fn labels_have_googles_limits() {
        for (key, value) in
            [("env", "prod"), ("é", ""), ("日本", "９"), ("a_-1", "_-1"), (&"k".repeat(63), &*"v".repeat(63))]
        {
            assert!(label(key, value).is_ok(), "{key}={value}");
        }
        for (key, value) in [
            ("", "v"),
            ("Env", "v"),
            ("1a", "v"),
            ("a.b", "v"),
            ("a", "V"),
            ("a", "v w"),
            (&"k".repeat(64), "v"),
            ("k", &*"v".repeat(64)),
            (&"日".repeat(43), "v"),
        ] {
            assert!(label(key, value).is_err(), "{key}={value}");
        }
        let many =
            |n: usize| verdict(|s| s.labels = (0..n).map(|i| (format!("k{i}"), String::new())).collect());
        assert!(many(64).is_ok() && many(65).is_err());
    }

    #[test]
    fn annotations_aliases_and_topics_have_theirs() {
        let annotate =
            |key: &str, value: &str| verdict(|s| drop(s.annotations.insert(key.into(), value.into())));
        assert!(annotate("a.b-c_D9", "Anything, really!").is_ok());
        assert!(annotate("-a", "").is_err() && annotate("a.", "").is_err() && annotate("a/b", "").is_err());
        assert!(annotate("a", &"v".repeat(16_382)).is_ok() && annotate("a", &"v".repeat(16_383)).is_err());

        let alias = |name: &str| verdict(|s| s.aliases = [(name.to_owned(), 1)].into());
        assert!(
            alias("prod").is_ok()
                && alias("latest").is_err()
                && alias("NEW").is_err()
                && alias("1a").is_err()
        );
        assert!(verdict(|s| s.aliases = (0..51).map(|i| (format!("a{i}"), 1)).collect()).is_err());

        assert!(verdict(|s| s.topics = vec!["projects/p/topics/t".into()]).is_ok());
        assert!(verdict(|s| s.topics = vec!["t".into()]).is_err());
        assert!(verdict(|s| s.topics = vec!["projects/p/topics/t".into(); 11]).is_err());
    }

    #[test]
    fn rotation_needs_topics_and_a_time_to_start() {
        let rotation = |topics: usize, next: Option<u64>, period: Option<u64>| {
            verdict(|s| {
                s.topics = vec!["projects/p/topics/t".into(); topics];
                let micros = |seconds| Micros::seconds(seconds).0;
                s.rotation =
                    Some(Rotation { next: next.map(|n| NOW.0 + micros(n)), period: period.map(micros) });
            })
        };
        assert!(rotation(1, Some(300), Some(3600)).is_ok());
        assert!(rotation(1, Some(300), None).is_ok());
        assert!(rotation(0, Some(300), Some(3600)).is_err());
        assert!(rotation(1, None, Some(3600)).is_err());
        assert!(rotation(1, Some(299), None).is_err());
        assert!(rotation(1, Some(300), Some(3599)).is_err());
    }

    #[test]
    fn times_lie_in_their_ranges() {
        let expires = |seconds: u64| verdict(|s| s.expires = Some(NOW.later(Micros::seconds(seconds)).0));
        assert!(expires(60).is_ok() && expires(59).is_err() && expires(36_501 * DAY).is_err());
        let delay = |seconds: u64| verdict(|s| s.destroy_delay = Some(Micros::seconds(seconds).0));
        assert!(delay(DAY).is_ok() && delay(1000 * DAY).is_ok());
        assert!(delay(DAY - 1).is_err() && delay(1000 * DAY + 1).is_err());
    }

    #[test]
    fn payloads_have_one_byte_to_64_kib() {
        assert!(check_payload(&[], None).is_err());
        assert!(check_payload(&[0; 65_536], None).is_ok());
        assert!(check_payload(&[0; 65_537], None).is_err());
        assert_eq!(check_payload(b"123456789", Some(0xe306_9283)).unwrap(), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn only_the_right_checksum_is_taken(data in proptest::collection::vec(any::<u8>(), 1..200), wrong: i64) {
            let crc = check_payload(&data, None).unwrap();
            prop_assert_eq!(check_payload(&data, Some(crc.into())).unwrap(), crc);
            prop_assume!(wrong != i64::from(crc));
            prop_assert!(check_payload(&data, Some(wrong)).is_err());
        }
    }
}
