//! How registries are reached: plain values, settled before anything is asked for.

use std::{path::PathBuf, time::Duration};

use super::proxy::{Exceptions, Proxy};

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Registries {
    /// The machine's proxy, which every host but loopback ones is reached through.
    pub proxy: Option<Proxy>,
    /// What is reached without the proxy, as `NO_PROXY` has it.
    pub except: Exceptions,
    /// A file or directory of trusted certificates (PEM), instead of the system's.
    pub roots: Option<PathBuf>,
    /// Who to be where a registry asks; others are read anonymously.
    pub credentials: Vec<Credentials>,
    /// How long a connection may take to be made: name, TCP and TLS together.
    pub connect: Duration,
    /// How long a registry may be silent in the middle of an answer.
    pub idle: Duration,
    /// How long a tag that is here already is looked up again, before the image that is here serves.
    pub recheck: Duration,
    /// How long a pull may take.
    pub deadline: Duration,
}

/// Who to be at one registry.
#[derive(Clone)]
pub struct Credentials {
    /// The registry's host as references name it, with its port if it has one.
    pub host: String,
    /// The user.
    pub user: String,
    /// The password, or a token that stands for it.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.user, self.host)
    }
}

impl Default for Registries {
    fn default() -> Self {
        Registries {
            proxy: None,
            except: Exceptions::default(),
            roots: None,
            credentials: Vec::new(),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            recheck: Duration::from_secs(2),
            deadline: Duration::from_secs(600),
        }
    }
}

impl Registries {
    /// What the usual variables say, asked for by name: `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, the lower case
    /// first as curl has it, and `SSL_CERT_FILE`. Empty ones count as unset.
    ///
    /// # Errors
    /// Which variable is wrong, and why; without a password that it may hold.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let set = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let either = |name: &str| {
            [name.to_ascii_lowercase(), name.to_owned()]
                .into_iter()
                .find_map(|name| Some((set(&name)?, name)))
        };
        let proxy = match either("HTTPS_PROXY").or_else(|| either("ALL_PROXY")) {
            Some((value, name)) => Some(Proxy::parse(value.trim()).map_err(|why| format!("{name}: {why}"))?),
            None => None,
        };
        let except = either("NO_PROXY").map(|(list, _)| Exceptions::parse(&list)).unwrap_or_default();
        let roots = set("SSL_CERT_FILE").map(PathBuf::from);
        Ok(Registries { proxy, except, roots, ..Registries::default() })
    }
}
