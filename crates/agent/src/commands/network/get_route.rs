//! `guest-network-get-route`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::network::{GuestNetworkGetRoute, GuestNetworkRoute};

use crate::commands::{Context, Handler};
use crate::platform::linux::route;

impl Handler for GuestNetworkGetRoute {
    const NEEDS: &'static str = "/proc/net/route, /proc/net/ipv6_route; where one is missing there are no such routes";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestNetworkRoute>> {
        route::all(&cx.state.root)
    }
}
