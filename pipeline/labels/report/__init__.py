"""One HTML page that shows what an output holds: `page.build` is where it comes together."""
