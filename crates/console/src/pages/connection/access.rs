//! Who may use a connection: a table of agents, and a sentence about those that lose access without it.

use maud::{Markup, html};

use crate::parts::ago;
use crate::visit::segment;
use keyward_api::wire::{AgentUse, Share};

/// Rows of the table. It is sent again at each renewal of the page.
const ROWS: usize = 40;
/// Agents that the sentence names.
const NAMED: usize = 5;

pub(super) fn table(agents: &[AgentUse]) -> Markup {
    html! {
        @if agents.is_empty() {
            div.body { p.muted { "No agent may use it yet. Open an agent and tick this connection. A connection of an end user is also for agents whose page lists its provider under " b { "End users" } "." } }
        } @else {
            div.wide { table {
                thead { tr { th { "Agent" } th { "Because" } th.r { "Requests" } th { "Last used" } } }
                tbody { @for agent in agents.iter().take(ROWS) { tr.go {
                    td { a href=(format!("/agents/{}", segment(&agent.name))) { (agent.name) } }
                    td { (match agent.by { Share::Bound => "it is bound", Share::Plugin => "a plugin", Share::Session => "sessions of its end user", Share::Rule => "a rule" }) }
                    td.r { (agent.requests) }
                    td { @if let Some(at) = agent.last_used { (ago(at)) } @else { span.muted { "never" } } }
                } } }
            } }
            @if agents.len() > ROWS { div.foot { (agents.len() - ROWS) " more" } }
        }
    }
}

/// Says which agents lose access without the connection.
pub(super) fn broken_by(agents: &[AgentUse], until: &str) -> String {
    if agents.is_empty() {
        return "No agent uses it.".to_owned();
    }
    let names: Vec<_> = agents.iter().take(NAMED).map(|agent| agent.name.as_str()).collect();
    let more = match agents.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("Requests of {}{more} that need it are refused {until}.", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::id::AgentId;

    fn agents(number: usize) -> Vec<AgentUse> {
        let agent = |at: usize| AgentUse {
            id: AgentId::random(),
            name: format!("robot-{at:03}"),
            by: Share::Bound,
            requests: 0,
            last_used: None,
        };
        (0..number).map(agent).collect()
    }

    #[test]
    fn of_many_agents_few_are_shown_and_the_others_are_counted() {
        let said = broken_by(&agents(1_000), "for good");
        assert!(said.contains("robot-004 and 995 more that need it are refused"), "{said}");
        assert!(!said.contains("robot-005"), "{said}");
        let table = table(&agents(1_000)).into_string();
        assert!(table.contains("robot-039") && !table.contains("robot-040"), "{table}");
        assert!(table.contains(">960 more<"), "{table}");
    }

    #[test]
    fn few_agents_are_all_shown() {
        assert_eq!(broken_by(&agents(0), "for good"), "No agent uses it.");
        let said = broken_by(&agents(2), "for good");
        let all = "Requests of robot-000, robot-001 that need it are refused for good.";
        assert_eq!(said, all);
        assert!(!table(&agents(40)).into_string().contains(" more<"));
    }
}
