//! The global options, the user and organisation of a command, and the parts of the configuration that commands
//! need.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use http::{HeaderMap, HeaderValue, header};

use super::failure::{Exit, Failure};
use keyward_api::auth::ORG_FIELD;
use keyward_app::DanglingLink;
use keyward_app::config::{self, Config};
use keyward_base::codes::Code;

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// data directory; else $KEYWARD_DATA, /var/lib/keyward or ~/.local/share/keyward
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// configuration file; default: $KEYWARD_CONFIG, else keyward.yaml in DIR
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// a gateway elsewhere, as the user of KEYWARD_TOKEN; default: $KEYWARD_URL
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// organisation to work in; default: default
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) org: Option<String>,
    /// print JSON, with the field names of the API
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// print tables in full: ids, all of a list, exact times
    #[arg(long, global = true)]
    pub(crate) wide: bool,
}

impl Global {
    /// The data directory. Needs no configuration, so that a broken one stops no command that a
    /// running gateway can answer.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, Failure> {
        Ok(config::data_dir(self.data.as_deref())?)
    }

    /// The whole configuration.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        let data = self.data_dir()?;
        if data.exists() && !data.is_dir() {
            let message = format!("the data directory {} is not a directory", data.display());
            return Err(Failure::new(Exit::Failed, message)
                .hint("choose another with --data or KEYWARD_DATA"));
        }
        // Its target may be on a disk that is not mounted.
        if let Some(link) = DanglingLink::at(&data) {
            let target = link.target.display();
            let hint = format!("create {target}, or choose another with --data or KEYWARD_DATA");
            return Err(
                Failure::new(Exit::Failed, format!("the data directory: {link}")).hint(hint)
            );
        }
        Ok(Config::load(self.config.as_deref(), self.data.as_deref())?)
    }

    /// `keyward` with the options that name this install, for the lines that people paste.
    pub(crate) fn keyward(&self) -> String {
        let mut line = "keyward".to_owned();
        for (option, path) in [("--data", &self.data), ("--config", &self.config)] {
            if let Some(path) = path {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                line.push_str(&format!(" {option} {}", quoted(&path.to_string_lossy())));
            }
        }
        if let Some(url) = &self.gateway {
            line.push_str(&format!(" --gateway {}", quoted(url)));
        }
        if let Some(org) = &self.org {
            line.push_str(&format!(" --org {}", quoted(org)));
        }
        line
    }

    /// A remedy of the gateway's, with the options that name this install in its commands.
    pub(crate) fn remedy(&self, remedy: &str) -> String {
        remedy.replace("`keyward ", &format!("`{} ", self.keyward()))
    }

    /// Refuses a command that works with a gateway of this machine only.
    ///
    /// # Errors
    /// When `--gateway` or `KEYWARD_URL` names another one.
    pub(crate) fn require_local_gateway(&self, command: &str) -> Result<(), Failure> {
        match named(self) {
            None => Ok(()),
            Some(_) => {
                let message = format!(
                    "`keyward {command}` works with a gateway of this machine, and KEYWARD_URL or --gateway names another one"
                );
                let hint = match command {
                    "run" => {
                        "`keyward env` prints the variables for a program; or unset KEYWARD_URL"
                    }
                    _ => "unset KEYWARD_URL, or run this command on the gateway's machine",
                };
                Err(Failure::usage(message).hint(hint))
            }
        }
    }

    /// Where the admin listener is reached from this machine in cleartext; `None` if it speaks TLS.
    pub(crate) fn admin_addr(&self) -> Result<Option<SocketAddr>, Failure> {
        let listen = self.load()?.listen;
        Ok(listen.admin_access.tls.is_none().then(|| dialable(listen.admin)))
    }
}

/// The URL of the admin listener, as a status names it: without a scheme, it speaks cleartext.
pub(crate) fn admin_url(admin: &str) -> String {
    if admin.starts_with("https://") { admin.to_owned() } else { format!("http://{admin}") }
}

/// A word for a POSIX shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    match word.chars().all(plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A listener on every address is dialled by loopback.
pub(crate) fn dialable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The variable that names the gateway.
pub(super) const URL: &str = "KEYWARD_URL";

/// The text of `--gateway`, else of `KEYWARD_URL`. Empty as unset: so it is passed by compose files that name no value.
pub(crate) fn named(global: &Global) -> Option<String> {
    let variable = || std::env::var_os(URL).map(|url| url.to_string_lossy().into_owned());
    global.gateway.clone().or_else(variable).filter(|url| !url.is_empty())
}

/// What every request carries.
#[derive(Clone, Default)]
pub(crate) struct Identity {
    token: Option<HeaderValue>,
    org: Option<HeaderValue>,
}

impl Identity {
    /// Of this process.
    ///
    /// # Errors
    /// When one of them cannot be sent.
    pub(crate) fn of(global: &Global) -> Result<Self, Failure> {
        // Empty as unset: so it is passed by compose files that name no value.
        let token = std::env::var("KEYWARD_TOKEN").ok().filter(|token| !token.is_empty());
        let token = token.map(|token| bearer(&token)).transpose()?;
        let org = global.org.as_deref().map(HeaderValue::from_str).transpose();
        let org =
            org.map_err(|_| Failure::usage("--org is not a valid name of an organisation"))?;
        Ok(Self { token, org })
    }

    /// Without a token: where nothing is stored, there is none.
    pub(crate) fn without_token(self) -> Self {
        Self { token: None, ..self }
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// With the variable whose token the gateway refused.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        match self.has_token() && failure.has_code(Code::Unauthenticated) {
            true => failure.hint(
                "KEYWARD_TOKEN holds this token: give another (an admin makes one with \
                 `keyward token add USER`), or on the gateway's machine unset it",
            ),
            false => failure,
        }
    }

    /// Adds it to the fields of a request.
    pub(crate) fn mark(&self, fields: &mut HeaderMap) {
        if let Some(token) = &self.token {
            fields.insert(header::AUTHORIZATION, token.clone());
        }
        if let Some(org) = &self.org {
            fields.insert(ORG_FIELD, org.clone());
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        // Its text is not repeated.
        Failure::new(Exit::Forbidden, "KEYWARD_TOKEN does not hold a token")
            .hint("create one: keyward token add USER")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("org", &self.org).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_hints_are_shell_quoted_and_name_the_data_directory_or_the_org() {
        let global = Global { data: Some("/a b/it's".into()), ..Global::default() };
        assert_eq!(global.keyward(), r"keyward --data '/a b/it'\''s'");
        assert_eq!(Global::default().keyward(), "keyward");
        let remedy = "get a key, then: `keyward connection rotate keyward `";
        assert_eq!(Global::default().remedy(remedy), remedy);
        let global = Global { org: Some("acme".to_owned()), ..Global::default() };
        let named = "get a key, then: `keyward --org acme connection rotate keyward `";
        assert_eq!(global.remedy(remedy), named);
    }

    #[test]
    fn a_listener_on_every_address_is_dialled_by_loopback() {
        let table = [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ];
        for (listen, dial) in table {
            assert_eq!(dialable(listen.parse().unwrap()).to_string(), dial);
        }
    }
}
