//! Support for the integration tests: a scripted origin, a gateway in this process, raw clients, a canary that
//! must not leak, and the built binary as a child process.

#![allow(clippy::new_without_default, reason = "what is new has a directory of its own")]

pub mod api;
mod asked;
pub mod authorization;
pub mod browser;
pub mod canary;
pub mod cli;
pub mod collector;
pub mod corporate;
pub mod finished;
pub mod fleet;
pub mod gateway;
pub mod hooks;
pub mod http2;
pub mod install;
pub mod lab;
pub mod login;
pub mod market;
mod message;
pub mod newcomer;
pub mod oauth;
pub mod origin;
pub mod pki;
pub mod process;
pub mod pty;
pub mod registries;
pub mod text;
pub mod tokens;
pub mod wire;

pub use lab::{HOST, Lab, Plan, STRANGER};
pub use origin::{Origin, Stream, ok, switching};
pub use text::{absolute, request_text};
pub use wire::{Head, Message, Wire, patiently, until, until_some};
