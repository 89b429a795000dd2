/** What the user can mend: it is shown without a stack. */
export class UserError extends Error {}
