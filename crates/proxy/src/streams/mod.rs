//! Agents' streams from accept to exchange: cores, CONNECT, interception, authentication, base URLs, the SSH agent.

pub mod authenticate;
pub mod base_url_requests;
pub mod connect;
pub mod cores;
pub mod intercept;
pub mod open_listener;
pub mod refused_request;
pub mod service;
pub mod ssh_agent;
pub mod statement_log;
