//! Names of ours made from names in discovery documents, which may hold dots and dashes.

/// `workloadIdentityPools.well-known` is `WorkloadIdentityPoolsWellKnown`.
pub(crate) fn pascal(name: &str) -> String {
    words(name).map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

/// `creationTimestamp` is `creation_timestamp`; a run of capitals stays together.
pub(crate) fn snake(key: &str) -> String {
    let mut name = String::new();
    let mut previous = '_';
    for letter in key.chars() {
        if letter.is_ascii_uppercase() && (previous.is_ascii_lowercase() || previous.is_ascii_digit()) {
            name.push('_');
        }
        name.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
        previous = letter;
    }
    name
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_proto_names() {
        assert_eq!(pascal("projects.well-known"), "ProjectsWellKnown");
        assert_eq!(pascal("getOpenid-configuration"), "GetOpenidConfiguration");
        assert_eq!(snake("creationTimestamp"), "creation_timestamp");
        assert_eq!(snake("podIP"), "pod_ip");
        assert_eq!(snake("access_token"), "access_token");
    }
}
