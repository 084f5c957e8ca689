// The price of all that is wanted.
export const total = (prices, wanted) => wanted.reduce((sum, name) => sum + prices[name], 0);
