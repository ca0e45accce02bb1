//! The lines to paste into an agent's shell. The only place that prints a token, when it is new.

use std::fmt;

use crate::cli::proxy_at::ProxyAt;

/// A new token and where it is used.
pub(super) struct Paste<'a> {
    /// The agent's name: the user of the proxy URL.
    pub(super) agent: &'a str,
    /// The token's text.
    pub(super) token: &'a str,
    /// Where the proxy listens.
    pub(super) proxy: ProxyAt,
    /// How the command line is called for this install.
    pub(super) keyward: &'a str,
}

impl fmt::Display for Paste<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent, token, proxy, keyward } = self;
        writeln!(f, "its token, shown only now:\n  {token}\n")?;
        writeln!(f, "run a program as it:  {keyward} run --agent {agent} -- CMD")?;
        write!(
            f,
            "for a program that runs elsewhere: {keyward} env --agent {agent} prints what to set"
        )?;
        // The gateway chooses the port when it starts.
        match proxy.addr.port() {
            0 => writeln!(f)?,
            _ => writeln!(f, ", such as\n  HTTPS_PROXY={}", proxy.url(agent, token))?,
        }
        writeln!(f, "\nlet it use a connection: {keyward} agent bind {agent} CONNECTION")
    }
}

impl fmt::Debug for Paste<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paste").field("agent", &self.agent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {

    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::*;

    const PASTE: Paste<'_> = Paste {
        agent: "claude",
        token: "kwa_canary",
        proxy: ProxyAt {
            tls: false,
            addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            host: None,
        },
        keyward: "keyward",
    };

    #[test]
    fn the_lines_set_proxy_and_roots_for_common_clients() {
        insta::assert_snapshot!(PASTE);
    }

    #[test]
    fn a_port_that_is_not_known_yet_is_not_pasted() {
        let mut paste = PASTE;
        paste.proxy.addr.set_port(0);
        let text = paste.to_string();
        assert!(
            !text.contains("HTTPS_PROXY") && text.contains("keyward env --agent claude"),
            "{text}"
        );
    }

    #[test]
    fn debug_hides_the_token() {
        assert!(!format!("{PASTE:?}").contains("canary"));
    }
}
