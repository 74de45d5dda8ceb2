//! What is in an instance: databases and users. PostgreSQL keeps them; nothing of them is stored here.

use apis::google::cloud::sql::v1beta4::operation::SqlOperationType as Kind;
use kernel::{Caller, Result};

use super::{Found, Job, Sql};
use crate::{
    names,
    postgres::admin::{self, DatabaseRow},
    refuse,
};

impl Sql {
    /// The databases of an instance, by name.
    pub(crate) async fn databases(&self, found: &Found) -> Result<Vec<DatabaseRow>> {
        self.admin(found).await?.databases().await
    }

    /// One database.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn database(&self, found: &Found, name: &str) -> Result<DatabaseRow> {
        let databases = self.databases(found).await?;
        databases.into_iter().find(|database| database.name == name).ok_or_else(|| refuse::no_database(name))
    }

    /// Creates a database.
    pub(crate) async fn create_database(
        &self,
        caller: &Caller,
        found: &Found,
        wanted: &DatabaseRow,
    ) -> Result<Job> {
        names::check_identifier("database", &wanted.name)?;
        let admin = self.admin(found).await?;
        admin.create_database(&wanted.name, &wanted.charset, &wanted.collation).await?;
        self.done(caller, Kind::CreateDatabase, &found.name).await
    }

    /// Deletes a database.
    pub(crate) async fn delete_database(&self, caller: &Caller, found: &Found, name: &str) -> Result<Job> {
        self.database(found, name).await?;
        self.admin(found).await?.drop_database(name).await?;
        self.done(caller, Kind::DeleteDatabase, &found.name).await
    }

    /// The users of an instance, by name.
    pub(crate) async fn users(&self, found: &Found) -> Result<Vec<String>> {
        self.admin(found).await?.users().await
    }

    /// One user.
    ///
    /// # Errors
    /// `NOT_FOUND`; also for the administrator and for roles that cannot log in.
    pub(crate) async fn user(&self, found: &Found, name: &str) -> Result<String> {
        let users = self.users(found).await?;
        users.into_iter().find(|user| user == name).ok_or_else(|| refuse::no_user(name))
    }

    /// Creates a user, or gives one that is there another password.
    pub(crate) async fn create_user(
        &self,
        caller: &Caller,
        found: &Found,
        name: &str,
        password: &str,
    ) -> Result<Job> {
        names::check_identifier("user", name)?;
        let admin = self.admin(found).await?;
        let verifier = if password.is_empty() { String::new() } else { admin::verifier(password) };
        match (admin.users().await?.iter().any(|user| user == name), verifier.is_empty()) {
            (true, true) => {}
            (true, false) => admin.set_password(name, &verifier).await?,
            (false, _) if admin.has_user(name).await? => {
                return Err(refuse::invalid(format_args!("Invalid user name ({name}).")));
            }
            (false, _) => admin.create_user(name, &verifier).await?,
        }
        self.done(caller, Kind::CreateUser, &found.name).await
    }

    /// Gives a user another password.
    pub(crate) async fn update_user(
        &self,
        caller: &Caller,
        found: &Found,
        name: &str,
        password: &str,
    ) -> Result<Job> {
        self.user(found, name).await?;
        if !password.is_empty() {
            self.admin(found).await?.set_password(name, &admin::verifier(password)).await?;
        }
        self.done(caller, Kind::UpdateUser, &found.name).await
    }

    /// Deletes a user that owns nothing.
    pub(crate) async fn delete_user(&self, caller: &Caller, found: &Found, name: &str) -> Result<Job> {
        self.user(found, name).await?;
        self.admin(found).await?.drop_user(name).await?;
        self.done(caller, Kind::DeleteUser, &found.name).await
    }
}
