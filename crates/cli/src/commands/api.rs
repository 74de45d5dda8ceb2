mod list;

use std::{io::Read, process::ExitCode};

use clap::Args;

use crate::{
    client,
    data::DataDir,
    report::{self, Doing, Result, Trouble, tell},
};

/// Call any Google API: haar api GET secretmanager.googleapis.com/v1/projects/P/secrets
#[derive(Args)]
pub struct Api {
    /// GET, POST, PATCH, PUT or DELETE
    #[arg(required_unless_present = "list")]
    method: Option<String>,
    /// The address, as Google's documentation gives it; https:// may be left out
    #[arg(required_unless_present = "list")]
    url: Option<String>,
    /// The body; @FILE reads a file, - standard input
    #[arg(short = 'd', long = "data-body", value_name = "BODY")]
    body: Option<String>,
    /// Act as this user or service account instead of the owner
    #[arg(long = "as", value_name = "EMAIL", value_parser = super::address)]
    principal: Option<String>,
    /// List the calls that haar answers, with the permissions they ask; of these, the ones with this word
    #[arg(long, value_name = "WORD", num_args = 0..=1, default_missing_value = "", conflicts_with = "method")]
    list: Option<String>,
    /// List as JSON
    #[arg(long, requires = "list")]
    json: bool,
}

impl Api {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let running = data.require_running()?;
        let (Some(method), Some(url)) = (&self.method, &self.url) else {
            return list::list(&running, self.list.as_deref().unwrap_or_default(), self.json);
        };
        let (host, path) = split(url)?;
        let token = client::access_token(&running, self.principal.as_deref())?;
        let body = self.body.as_deref().map(read_body).transpose()?.unwrap_or_default();
        let answer = client::call(&running, &method.to_uppercase(), host, path, &token, body)?;
        report::print(&answer.body)?;
        if answer.status < 400 {
            return Ok(ExitCode::SUCCESS);
        }
        tell!("haar: {host} answered {}", answer.status);
        Ok(ExitCode::FAILURE)
    }
}

fn split(url: &str) -> Result<(&str, &str)> {
    let bare = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url);
    let slash = bare.find('/').unwrap_or(bare.len());
    let (host, path) = bare.split_at(slash);
    if host.is_empty() || !host.contains('.') {
        return Err(Trouble::new(format!("'{url}' names no host"))
            .next("for example: haar api GET secretmanager.googleapis.com/v1/projects/P/secrets"));
    }
    let bare = host.split(':').next().unwrap_or(host).trim_end_matches('.').to_ascii_lowercase();
    if bare.ends_with(".run.app") || bare.ends_with(".run.localhost") {
        return Err(Trouble::new(format!(
            "{host} is a service, not an API: it must not get your access token"
        ))
        .next("call it with: haar exec -- curl https://HOST/"));
    }
    Ok((host, if path.is_empty() { "/" } else { path }))
}

fn read_body(body: &str) -> Result<Vec<u8>> {
    if body == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).doing("read standard input")?;
        return Ok(bytes);
    }
    match body.strip_prefix('@') {
        Some(file) => std::fs::read(file).doing(format_args!("read {file}")),
        None => Ok(body.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_path() {
        let api = "secretmanager.googleapis.com";
        for url in [format!("https://{api}/v1/x?a=b"), format!("{api}/v1/x?a=b")] {
            assert_eq!(split(&url).unwrap(), (api, "/v1/x?a=b"));
        }
        assert_eq!(split(api).unwrap(), (api, "/"));
        assert!(split("secrets").is_err());
    }

    #[test]
    fn a_service_never_gets_the_owners_token() {
        for url in [
            "http://tide-1.us-central1.run.localhost:4560/",
            "Tide-1.us-central1.Run.App.",
            "a.run.app:443/x",
        ] {
            assert!(split(url).is_err(), "{url}");
        }
    }
}
