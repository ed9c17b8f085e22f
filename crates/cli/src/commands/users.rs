//! `qga users`

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::system::{GuestGetUsers, GuestUser};

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::Table;
use crate::units;

/// Show who is logged in, and since when
#[derive(Debug, Args)]
pub(crate) struct Users {}

impl PerTarget for Users {
    const NAME: &'static str = "users";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.show::<GuestGetUsers>(Empty {}, text)
    }
}

fn text(users: Vec<GuestUser>) -> String {
    let mut table = Table::new(&["USER", "DOMAIN", "SINCE"]);
    for user in users {
        table.row([user.user.into(), user.domain.into(), units::moment(user.login_time).into()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_the_time_of_their_login() {
        let user = GuestUser { login_time: 1_700_000_000.5, user: "ann".into(), domain: None };
        assert_eq!(text(vec![user]), "USER  DOMAIN  SINCE\nann   -       2023-11-14T22:13:20Z\n");
    }
}
