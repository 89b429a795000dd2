// The types are what this module is for: what it can do grows with the capabilities of Skiff.
export {};
