//! Ownership of connections and agents: the options of `add`, and the `assign` command.

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::settings::Global;
use keyward_base::id::UserId;
use keyward_model::{Shown, User};

/// Visibility of a connection.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct VisibilityArgs {
    /// only agents of its owner may use it; the default if it has an owner
    #[arg(long)]
    private: bool,
    /// all agents of the organisation may use it
    #[arg(long, conflicts_with = "private")]
    shared: bool,
}

/// The new owner.
#[derive(Debug, Args)]
pub(crate) struct NewOwner {
    /// name or id
    pub(crate) name: String,
    /// make this user the owner
    #[arg(long, value_name = "USER")]
    to: Option<String>,
    /// make the organisation the owner
    #[arg(long, conflicts_with = "to")]
    to_org: bool,
}

/// The name of an owner; the id if the caller may not see the user.
pub(crate) async fn owner_of(client: &Client, owner: Option<&UserId>) -> String {
    let Some(id) = owner else { return String::new() };
    let user = client.get::<Shown<User>>(&format!("/api/v1/users/{id}")).await;
    user.map_or_else(|_| id.to_string(), |user| user.name().to_owned())
}

impl VisibilityArgs {
    /// The value for the API.
    pub(crate) fn word(&self) -> Option<&'static str> {
        match (self.private, self.shared) {
            (true, _) => Some("private"),
            (_, true) => Some("shared"),
            _ => None,
        }
    }
}

impl NewOwner {
    /// Assigns a resource of this kind, `agent` or `connection`, and returns it.
    pub(crate) async fn run<T: Serialize + DeserializeOwned>(
        &self,
        global: &Global,
        client: &Client,
        kind: &str,
        seen: &VisibilityArgs,
    ) -> Result<T, Failure> {
        let mut patch = Map::new();
        if self.to_org {
            patch.insert("owner".to_owned(), Value::Null);
        }
        if let Some(user) = &self.to {
            patch.insert("owner".to_owned(), json!(user));
        }
        if let Some(word) = seen.word() {
            patch.insert("visibility".to_owned(), json!(word));
        }
        if patch.is_empty() {
            let failure = Failure::usage("no new owner is given");
            return Err(failure
                .hint("use --to USER or --to-org; for a connection also --private or --shared"));
        }
        let name = &self.name;
        let path = format!("/api/v1/{kind}s/{}", segment(name));
        let now: T = client.patch(&path, &patch).await?;
        output::show(global.json, &now, |_| match (&self.to, self.to_org) {
            (Some(user), _) => format!("{kind} {name} belongs to user {user}\n"),
            (None, true) => format!("{kind} {name} belongs to the organisation\n"),
            (None, false) => format!("{kind} {name} is {}\n", seen.word().unwrap_or_default()),
        })?;
        Ok(now)
    }
}
