//! `guest-network-get-route`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::json::ListWriter;
use qga_proto::types::network::{GuestNetworkGetRoute, GuestNetworkRoute};

use crate::commands::{Context, Handler};
use crate::platform::linux::route;

impl Handler for GuestNetworkGetRoute {
    const NEEDS: &'static str =
        "rtnetlink or /proc/net/route, /proc/net/ipv6_route; where one is missing there are no such routes";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestNetworkRoute>> {
        let mut routes = Vec::new();
        route::each(&cx.state.root, |route| routes.push(route.clone()))?;
        Ok(routes)
    }

    fn answer(cx: Context<'_>, _: Empty, out: &mut Vec<u8>) -> Result<()> {
        let mut list = ListWriter::new(out);
        route::each(&cx.state.root, |route| list.item(route))?;
        list.finish();
        Ok(())
    }
}
