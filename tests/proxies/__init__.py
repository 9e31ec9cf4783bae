"""The examples' proxies, for real: servers that leave behind them."""
