//! The console in a real Chromium: people connect accounts, bind agents, watch traffic and repair connections.

mod chromium;
