//! Listeners that log in at databases for agents.
