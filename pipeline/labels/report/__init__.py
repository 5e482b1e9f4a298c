"""One HTML page that shows what an output holds: `page.write` is where it comes together."""
