//! `keyward user password` and `keyward user totp`: what a user signs in with, beside links.

use clap::Args;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde::Serialize;

use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::resource::path;
use crate::cli::settings::Global;
use crate::cli::terminal::secret::{self, Typed};
use crate::cli::terminal::table::moment;
use keyward_api::wire::TotpView;
use keyward_model::{PasskeyShown, Shown, User};

pub(crate) const PASSWORD_EXAMPLES: &str = "The password has 12 to 256 characters. Other logins of the user end.\n\n\
    examples:\n  keyward user password ann\n  keyward user password ann --stdin < file\n  \
    keyward user password ann --remove";

pub(crate) const TOTP_EXAMPLES: &str = "\
The key is shown once. A first code confirms it; from then on a sign-in with the
password needs a code.

examples:
  keyward user totp ann
  keyward user totp ann --confirm 123456
  keyward user totp ann --remove";

pub(crate) const PASSKEYS_EXAMPLES: &str = "People add passkeys in the console, on their own page.\n\nexamples:\n  \
    keyward user passkeys ann\n  keyward user passkeys ann --remove";

#[derive(Debug, Args)]
pub(crate) struct Passkeys {
    /// name or id
    name: String,
    /// remove all of them: a device was lost
    #[arg(long)]
    remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Password {
    /// name or id
    name: String,
    /// read the password from standard input; default: ask on the terminal
    #[arg(long)]
    stdin: bool,
    /// ask for the current password too: required for your own
    #[arg(long, conflicts_with = "stdin")]
    current: bool,
    /// remove the password; links still sign in
    #[arg(long, conflicts_with_all = ["stdin", "current"])]
    remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Totp {
    /// name or id
    name: String,
    /// the first code of a key that was shown
    #[arg(long, value_name = "CODE")]
    confirm: Option<String>,
    /// ask for the current password and a code: required for your own
    #[arg(long, conflicts_with = "confirm")]
    current: bool,
    /// remove the key: the password alone signs in
    #[arg(long, conflicts_with_all = ["confirm", "current"])]
    remove: bool,
}

/// The body that sets a password.
#[derive(Serialize)]
struct NewPassword {
    password: Typed,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Typed>,
}

/// The body that makes a key.
#[derive(Default, Serialize)]
struct KeyRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Typed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Typed>,
}

/// The body that confirms a key.
#[derive(Serialize)]
struct KeyConfirmation {
    code: Typed,
}

impl Password {
    pub(crate) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let Self { name, stdin, current, remove } = self;
        let at = format!("{}/password", path::<User>(&name));
        if remove {
            client.delete(&at).await?;
            let text = format!("password of {name} removed\n");
            return output::removed(global.json, &[name], &text);
        }
        // Asked before the user types a password for nothing.
        let user: Shown<User> = client.get(&path::<User>(&name)).await?;
        let current = if current { Some(Typed::from_prompt("current password")?) } else { None };
        let password = if stdin { Typed::from_stdin()? } else { typed_twice()? };
        client.put(&at, &NewPassword { password, current }).await?;
        let user: Shown<User> = client.get(&path::<User>(user.id.as_str())).await?;
        output::show(global.json, &user, |user| {
            format!("password of {} set; other logins of this user have ended\n", user.name())
        })
    }
}

fn typed_twice() -> Result<Typed, Failure> {
    if !secret::can_ask() {
        return Err(
            Failure::usage("no password is given").hint("give it on standard input: --stdin")
        );
    }
    let password = Typed::from_prompt("new password")?;
    match Typed::from_prompt("new password again")?.text() == password.text() {
        true => Ok(password),
        false => Err(Failure::usage("the two passwords differ")),
    }
}

impl Totp {
    pub(crate) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let Self { name, confirm, current, remove } = self;
        let at = format!("{}/totp", path::<User>(&name));
        if remove {
            client.delete(&at).await?;
            let text = format!("one-time codes of {name} removed: the password alone signs in\n");
            return output::removed(global.json, &[name], &text);
        }
        if let Some(code) = confirm {
            return confirmed(global, client, &name, Typed::from(code)).await;
        }
        let ask = match current {
            false => KeyRequest::default(),
            true => KeyRequest {
                current: Some(Typed::from_prompt("current password")?),
                code: Some(Typed::from(secret::ask_or("code of the current key", "none")?))
                    .filter(|code| code.text() != "none"),
            },
        };
        let made: TotpView = client.post(&at, &ask).await?;
        let is_asked = secret::can_ask() && !global.json;
        output::show(global.json, &made, |made| shown(made, &name, is_asked))?;
        match is_asked {
            true => {
                let code = Typed::from(secret::ask("code that it shows now")?);
                confirmed(global, client, &name, code).await
            }
            false => Ok(()),
        }
    }
}

impl Passkeys {
    pub(crate) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let Self { name, remove } = self;
        if remove {
            client.delete(&format!("{}/passkeys", path::<User>(&name))).await?;
            let text = format!("passkeys of {name} removed\n");
            return output::removed(global.json, &[name], &text);
        }
        let user: Shown<User> = client.get(&path::<User>(&name)).await?;
        output::show(global.json, &user.facts.sign_in.passkeys, |all| match all.as_slice() {
            [] => format!("{name} has no passkeys\n"),
            all => all.iter().map(line).collect(),
        })
    }
}

fn line(passkey: &PasskeyShown) -> String {
    let used = passkey.last_used.map_or_else(|| "never".to_owned(), moment);
    format!("{}  {}  added {}, used {used}\n", passkey.id, passkey.name, moment(passkey.created))
}

async fn confirmed(
    global: &Global,
    client: &Client,
    name: &str,
    code: Typed,
) -> Result<(), Failure> {
    let at = path::<User>(name);
    client.put(&format!("{at}/totp"), &KeyConfirmation { code }).await?;
    let user: Shown<User> = client.get(&at).await?;
    output::show(global.json, &user, |user| {
        format!("{} signs in with password and one-time code from now on\n", user.name())
    })
}

fn shown(made: &TotpView, name: &str, is_asked: bool) -> String {
    let picture = match QrCode::with_error_correction_level(&made.uri, EcLevel::L) {
        Ok(code) if is_asked => code.render::<Dense1x2>().build() + "\n",
        _ => String::new(),
    };
    let next = match is_asked {
        true => String::new(),
        false => {
            format!("confirm it with its first code: keyward user totp {name} --confirm CODE\n")
        }
    };
    format!(
        "{picture}add the key to an authenticator program{}; it is shown once\n\
         key  {}\nuri  {}\n{next}",
        if is_asked { ", by camera or by hand" } else { "" },
        made.secret,
        made.uri
    )
}
