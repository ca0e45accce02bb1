//! Whose a connection or an agent is: the options of something new, and `assign`.

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::failure::Failure;
use super::output;
use super::settings::Global;
use keyward_base::id::UserId;
use keyward_model::{Shown, User};

/// Whose a new connection is, and who may use it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Whose {
    /// whose it is: a user; default: who KEYWARD_TOKEN stands for, if anybody
    #[arg(long, value_name = "USER")]
    pub(crate) owner: Option<String>,
    #[command(flatten)]
    pub(crate) seen: Seen,
}

/// Who may use a connection.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Seen {
    /// for agents of its owner alone; usual where it has one
    #[arg(long)]
    private: bool,
    /// for all agents of the organisation
    #[arg(long, conflicts_with = "private")]
    shared: bool,
}

/// To whom something is given.
#[derive(Debug, Args)]
pub(crate) struct To {
    /// name or id
    pub(crate) name: String,
    /// give it to this user
    #[arg(long, value_name = "USER")]
    to: Option<String>,
    /// give it to the organisation
    #[arg(long, conflicts_with = "to")]
    to_org: bool,
}

/// The name of an owner, for people; the id where the caller may not see who it is.
pub(crate) async fn owner_of(client: &Client, owner: Option<&UserId>) -> String {
    let Some(id) = owner else { return String::new() };
    let user = client.get::<Shown<User>>(&format!("/api/v1/users/{id}")).await;
    user.map_or_else(|_| id.to_string(), |user| user.name().to_owned())
}

impl Seen {
    /// As the API takes it.
    pub(crate) fn word(&self) -> Option<&'static str> {
        match (self.private, self.shared) {
            (true, _) => Some("private"),
            (_, true) => Some("shared"),
            _ => None,
        }
    }
}

impl To {
    /// Gives it: `at` is its path, `what` its kind.
    pub(crate) async fn run<T: Serialize + DeserializeOwned>(
        &self,
        (global, client): (&Global, &Client),
        (what, at): (&str, &str),
        seen: &Seen,
    ) -> Result<(), Failure> {
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
            let failure = Failure::usage("nobody is named");
            return Err(
                failure.hint("--to USER or --to-org; of a connection --private or --shared")
            );
        }
        let now: T = client.patch(at, &patch).await?;
        let name = &self.name;
        output::show(global.json, &now, |_| match (&self.to, self.to_org) {
            (Some(user), _) => format!("{what} {name} is {user}'s\n"),
            (None, true) => format!("{what} {name} is the organisation's\n"),
            (None, false) => format!("{what} {name} is {}\n", seen.word().unwrap_or_default()),
        })
    }
}
