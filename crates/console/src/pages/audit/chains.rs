//! The part of `/audit/verify` about replicas: what each published of its log, compared with the log of this gateway.

use maud::{Markup, html};

use crate::parts::{Tone, ago, count, state};
use crate::visit::sentence;
use keyward_api::wire::{AuditChain, AuditChainState};

pub(super) fn show(all: &[AuditChain]) -> Markup {
    html! {
        section.panel #chains {
            header { h2 { "Logs of replicas" } (count(all.len(), "log")) }
            ul.rows { @for chain in all { li { div.grow {
                p { code { (chain.host) } " " code { (chain.chain) } " " (word(chain)) @if chain.ended { " " span.chip { "stopped" } } }
                p.small.muted { (last(chain)) " records · published " (ago(chain.published)) }
                @if let Some(reason) = &chain.reason { p.small { (sentence(reason)) } }
            } } } }
            div.body { p.small.muted {
                "Each replica writes its own log and publishes its end each minute. This gateway reads its own log only: to verify the others, copy them to one machine and run "
                code { "keyward audit verify --log FILE" } "."
            } }
        }
    }
}

/// The number of the last published record.
fn last(chain: &AuditChain) -> u64 {
    chain.heads.last().map_or(0, |head| head.seq)
}

/// The words of `keyward audit verify`.
fn word(chain: &AuditChain) -> Markup {
    match chain.state {
        AuditChainState::Whole => state(Tone::Ok, "whole"),
        AuditChainState::Shortened => state(Tone::Bad, "shortened"),
        AuditChainState::Altered => state(Tone::Bad, "altered"),
        AuditChainState::NotHere => state(Tone::Idle, "in another log"),
    }
}
