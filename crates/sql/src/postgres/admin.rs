//! Databases and roles of a running cluster, by SQL over its socket.
//!
//! Passwords are turned into SCRAM verifiers before they leave this process: the server's log never holds one.

use std::time::Duration;

use kernel::{Error, Result};
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls, error::SqlState};

use super::cluster::{ADMINISTRATOR, Cluster};
use crate::refuse;

/// The role whose members may do what Cloud SQL's users may.
const SUPERUSER: &str = "cloudsqlsuperuser";
/// The role that every new instance has.
pub(crate) const ROOT: &str = "postgres";

/// How long a server that is starting is waited for, and how long between two looks.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// A connection as the administrator.
pub(crate) struct Admin(Client);

/// A database as PostgreSQL describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseRow {
    /// Its name.
    pub(crate) name: String,
    /// Its encoding, such as `UTF8`.
    pub(crate) charset: String,
    /// Its collation, such as `C.UTF-8`.
    pub(crate) collation: String,
}

impl Admin {
    /// Connects to a cluster whose server runs, or is just starting.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be reached.
    pub(crate) async fn connect(cluster: &Cluster) -> Result<Admin> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(cluster.socket_directory()).user(ADMINISTRATOR).dbname("postgres");
        config.password(cluster.password()?).application_name("haar");
        config.connect_timeout(PATIENCE);
        let unreachable = |error: tokio_postgres::Error| {
            Error::unavailable("The database server cannot be reached.").because(error)
        };
        let deadline = Instant::now() + PATIENCE;
        let (client, connection) = loop {
            match config.connect(NoTls).await {
                Ok(connected) => break connected,
                Err(error) if is_starting(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await
                }
                Err(error) => return Err(unreachable(error)),
            }
        };
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("an administrator's connection ended: {error}");
            }
        });
        Ok(Admin(client))
    }

    /// Makes the roles that every instance has. Done twice, it changes nothing but a password that is given.
    pub(crate) async fn furnish(&self, root_verifier: &str) -> Result<()> {
        if !self.has_user(SUPERUSER).await? {
            self.run(&format!("CREATE ROLE {SUPERUSER} CREATEDB CREATEROLE")).await?;
        }
        if !self.has_user(ROOT).await? {
            self.create_user(ROOT, "").await?;
        }
        if !root_verifier.is_empty() {
            self.set_password(ROOT, root_verifier).await?;
        }
        self.run(&format!(
            "GRANT pg_monitor, pg_signal_backend TO {SUPERUSER}; ALTER DATABASE postgres OWNER TO {SUPERUSER}"
        ))
        .await
    }

    /// The databases, without the templates, by name.
    pub(crate) async fn databases(&self) -> Result<Vec<DatabaseRow>> {
        let query = "SELECT datname, pg_encoding_to_char(encoding), datcollate FROM pg_database \
                     WHERE NOT datistemplate ORDER BY datname";
        let rows = self.0.query(query, &[]).await.map_err(Error::internal)?;
        let row = |row: tokio_postgres::Row| DatabaseRow {
            name: row.get(0),
            charset: row.get(1),
            collation: row.get(2),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Creates a database that [`SUPERUSER`] owns. Empty charset and collation are the cluster's.
    pub(crate) async fn create_database(&self, name: &str, charset: &str, collation: &str) -> Result<()> {
        let mut statement = format!("CREATE DATABASE {} OWNER {SUPERUSER}", identifier(name));
        if !(charset.is_empty() && collation.is_empty()) {
            statement += " TEMPLATE template0";
        }
        if !charset.is_empty() {
            statement += &format!(" ENCODING {}", literal(charset));
        }
        if !collation.is_empty() {
            let collation = literal(collation);
            statement += &format!(" LC_COLLATE {collation} LC_CTYPE {collation}");
        }
        let failed = |error: &tokio_postgres::Error| {
            refuse::invalid(format_args!("failed to create database {name}. Detail: pq: {}", said(error)))
        };
        self.0.batch_execute(&statement).await.map_err(|error| failed(&error))
    }

    /// Deletes a database that nobody is connected to.
    pub(crate) async fn drop_database(&self, name: &str) -> Result<()> {
        let failed = |error: &tokio_postgres::Error| {
            refuse::invalid(format_args!(
                "failed to delete database \"{name}\". Detail: pq: {}. (Please use psql client to delete database \
                 that is not owned by \"{SUPERUSER}\").",
                said(error)
            ))
        };
        let statement = format!("DROP DATABASE {}", identifier(name));
        self.0.batch_execute(&statement).await.map_err(|error| failed(&error))
    }

    /// The roles that may log in, without superusers, by name.
    pub(crate) async fn users(&self) -> Result<Vec<String>> {
        let query = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper ORDER BY rolname";
        let rows = self.0.query(query, &[]).await.map_err(Error::internal)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Creates a user as Cloud SQL does; an empty verifier means that no password opens it.
    pub(crate) async fn create_user(&self, name: &str, verifier: &str) -> Result<()> {
        let password = match verifier {
            "" => "NULL".to_owned(),
            verifier => literal(verifier),
        };
        let name = identifier(name);
        self.run(&format!(
            "CREATE ROLE {name} LOGIN CREATEDB CREATEROLE IN ROLE {SUPERUSER} PASSWORD {password}"
        ))
        .await
    }

    /// Replaces a user's password.
    pub(crate) async fn set_password(&self, name: &str, verifier: &str) -> Result<()> {
        self.run(&format!("ALTER ROLE {} PASSWORD {}", identifier(name), literal(verifier))).await
    }

    /// Deletes a user that owns nothing.
    pub(crate) async fn drop_user(&self, name: &str) -> Result<()> {
        let failed = |error: &tokio_postgres::Error| {
            let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default();
            refuse::invalid(format_args!(
                "failed to delete user {name}: . {} Details: {}.",
                said(error),
                detail.trim_end_matches('.')
            ))
        };
        let statement = format!("DROP ROLE {}", identifier(name));
        self.0.batch_execute(&statement).await.map_err(|error| failed(&error))
    }

    /// Whether there is such a role, of whatever kind.
    pub(crate) async fn has_user(&self, name: &str) -> Result<bool> {
        let query = "SELECT 1 FROM pg_roles WHERE rolname = $1";
        Ok(self.0.query_opt(query, &[&name]).await.map_err(Error::internal)?.is_some())
    }

    async fn run(&self, statement: &str) -> Result<()> {
        self.0.batch_execute(statement).await.map_err(|error| match error.code() {
            Some(code) if *code == SqlState::RESERVED_NAME || *code == SqlState::INVALID_NAME => {
                refuse::invalid(said(&error))
            }
            _ => Error::internal(error),
        })
    }
}

/// Whether a server that was found does not take connections yet: its socket is missing, or it says so.
fn is_starting(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::CANNOT_CONNECT_NOW,
        None => true,
    }
}

/// The verifier of a password, as PostgreSQL stores it.
pub(crate) fn verifier(password: &str) -> String {
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant; backslashes are nothing special (`standard_conforming_strings`).
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(identifier("a\"; DROP ROLE x; --"), "\"a\"\"; DROP ROLE x; --\"");
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn passwords_leave_as_verifiers() {
        let verifier = verifier("correct horse");
        assert!(verifier.starts_with("SCRAM-SHA-256$4096:") && !verifier.contains("horse"));
    }
}
