//! Support for the integration tests: a scripted origin, a gateway in this process, raw clients, a canary that
//! must not leak, and the built binary as a child process.

#![allow(dead_code, reason = "two test binaries share this, each uses a part")]

pub(crate) mod api;
mod asked;
pub(crate) mod authorization;
pub(crate) mod browser;
pub(crate) mod canary;
pub(crate) mod collector;
pub(crate) mod corporate;
pub(crate) mod finished;
pub(crate) mod fleet;
pub(crate) mod gateway;
pub(crate) mod hooks;
pub(crate) mod http2;
pub(crate) mod install;
pub(crate) mod lab;
pub(crate) mod login;
pub(crate) mod market;
mod message;
pub(crate) mod newcomer;
pub(crate) mod oauth;
pub(crate) mod origin;
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod text;
pub(crate) mod tokens;
pub(crate) mod wire;

#[allow(unused_imports, reason = "two test binaries share this, each uses a part")]
pub(crate) use lab::{HOST, Lab, Plan, STRANGER};
#[allow(unused_imports, reason = "two test binaries share this, each uses a part")]
pub(crate) use origin::{Origin, Stream, ok, switching};
#[allow(unused_imports, reason = "two test binaries share this, each uses a part")]
pub(crate) use text::{absolute, request_text};
#[allow(unused_imports, reason = "two test binaries share this, each uses a part")]
pub(crate) use wire::{Head, Message, Wire, patiently, until, until_some};
