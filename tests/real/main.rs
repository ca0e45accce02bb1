//! Real programs behind the gateway, started as their users start them. The origin accepts only the live
//! credential, and the program never sees it. `tests/run` installs the programs; a missing one is a failure.

#[path = "../it/support/mod.rs"]
mod support;

mod allow;
mod api;
mod base_url;
mod body_placement;
mod certificate;
mod chromium;
mod command_line;
mod conformance;
mod consent;
mod console;
mod corporate;
mod doctor;
mod doctor_gateway;
mod git;
mod git_over_https;
mod go;
mod grpc;
mod hook_signatures;
mod http2;
mod image;
mod in_node;
mod in_others;
mod in_python;
mod issuer;
mod java;
mod mcp;
mod monitoring;
mod newcomers;
mod node;
mod oauth_clients;
mod oauth_discovered;
mod oauth_faults;
mod oauth_grants;
mod openapi;
mod packages;
mod person;
mod python;
mod refused;
mod relay;
mod remedies;
mod run;
mod served;
mod service;
mod shelf;
mod shells;
mod ssh;
mod stage;
mod tls_proxy;
mod unable;
mod webhooks;
mod websockets;
