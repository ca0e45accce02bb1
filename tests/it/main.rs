//! The gateway as its users meet it: real sockets, a real TLS origin, one process. Modules are
//! named after what they claim.

mod support;

mod absolute_form;
mod agent_listeners;
mod audit;
mod bodies;
mod catalogue;
mod cli_help;
mod cli_local;
mod cli_runner;
mod cli_socket;
mod configuration_page;
mod connect;
mod crash;
mod deadlines;
mod env;
mod explain;
mod guard;
mod host_mismatch;
mod injection;
mod leaves;
mod malformed_answers;
mod malformed_requests;
mod means;
mod placeholders;
mod providers_page;
mod proxy_auth;
mod reload;
mod reload_load;
mod run_child;
mod run_gateway;
mod run_token;
mod security_fuzz;
mod security_injection;
mod security_process;
mod security_streams;
mod selection;
mod service;
mod shell;
mod targets;
mod websocket;
mod written;
