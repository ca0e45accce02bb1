//! The protocol of SSH agents (draft-ietf-sshm-ssh-agent), as far as signing needs it: no keys are added, listed with
//! their secrets or removed. Pure and synchronous; `keyward-proxy` serves it.
//!
//! ```text
//! agent        requests and answers
//! binding      which SSH session a stream belongs to, proved by the server's host key (session-bind@openssh.com)
//! login        the text that a client has signed to log in (RFC 4252 §7)
//! known_hosts  host keys of servers, as known_hosts(5) writes them
//! private_key  keys in OpenSSH's format, and their signatures
//! public_key   verification of host keys' signatures
//! wire         strings and numbers (RFC 4251 §5)
//! ```

pub mod agent;
pub mod binding;
pub mod login;
pub mod private_key;
pub mod public_key;
pub mod wire;
