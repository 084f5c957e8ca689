// A function in several files.
//
//   nex devrun examples/functions/shop --trigger-subject shop
//   nex req shop '["tea","cake","tea"]'
import { total } from "./lib/price.mjs";
import prices from "./prices.json" with { type: "json" };

export default request => `${total(prices, request.json())} coins`;
